// Command run starts an engine, runs a command that finds it in its environment, and stops the engine again:
//
//	go run ./compat/engines/run -store=etcd -- go test ./...
//
// The command sees QUORATE_TEST_STORE=<engine>, and QUORATE_TEST_POSTGRESQL=<url> or QUORATE_TEST_ETCD=<addresses,
// separated by commas>. The exit code is the command's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/quorate/quorate/compat/engines"
)

// starters start an engine with its data below dir, and return what the command needs to find it.
var starters = map[string]func(dir string) (variable string, stop func(), err error){
	"etcd": func(dir string) (string, func(), error) {
		cluster, err := engines.StartEtcd(dir, 3)
		if err != nil {
			return "", nil, err
		}
		return "QUORATE_TEST_ETCD=" + strings.Join(cluster.Endpoints(), ","), cluster.Stop, nil
	},
	"postgresql": func(dir string) (string, func(), error) {
		server, err := engines.StartPostgreSQL(dir)
		if err != nil {
			return "", nil, err
		}
		return "QUORATE_TEST_POSTGRESQL=" + server.URL("postgres"), server.Stop, nil
	},
}

func main() {
	name := flag.String("store", "", "the engine: postgresql or etcd")
	flag.Parse()
	start := starters[*name]
	if start == nil || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: run -store=postgresql|etcd -- command [argument ...]")
		os.Exit(2)
	}
	code, err := run(*name, start, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
	}
	os.Exit(code)
}

func run(name string, start func(string) (string, func(), error), args []string) (code int, err error) {
	// The command gets the terminal's signals as well; this process outlives it to clean up.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	dir, err := os.MkdirTemp("", "quorate-run-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	variable, stop, err := start(dir)
	if err != nil {
		return 1, err
	}
	defer stop()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "QUORATE_TEST_STORE="+name, variable)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
