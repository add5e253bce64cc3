// Package cli runs the product's command line as people do: in scripts that read as its documentation, in front of a
// real server, with a real terminal where one is asked at.
package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/quorate/quorate/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"quorate": func() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"answers":   answers,
			"exits":     exits,
			"listening": listening,
			"pgpkey":    pgpKey,
			"pgpopen":   pgpOpen,
			"save":      save,
			"shares":    shares,
		},
	})
}

// setup gives each script a home, nothing of the developer's environment, and an address of its own: in its *.hcl files,
// it takes the place of the usual one.
func setup(env *testscript.Env) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	configs, err := filepath.Glob(filepath.Join(env.WorkDir, "*.hcl"))
	if err != nil {
		return err
	}
	for _, name := range configs {
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(name, bytes.ReplaceAll(b, []byte("127.0.0.1:8200"), []byte(l.Addr().String())), 0o600)
		}
		if err != nil {
			return err
		}
	}
	home := filepath.Join(env.WorkDir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	env.Setenv("ADDRESS", l.Addr().String())
	env.Setenv("BAO_ADDR", "http://"+l.Addr().String())
	env.Setenv("BAO_MAX_RETRIES", "0")
	return nil
}

// listening waits until the server answers at $ADDRESS, or at the address given. That a connection is taken isn't enough:
// the system takes them while the server still prepares itself.
//
//	listening [ADDRESS]
func listening(ts *testscript.TestScript, neg bool, args []string) {
	network, address := "tcp", ts.Getenv("ADDRESS")
	if len(args) > 0 {
		address = args[0]
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		network, address = "unix", path
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		resp, err := client.Get("http://localhost/v1/sys/health")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nothing answers at %s: %v", address, err)
		}
	}
}

// exits runs a command that must end with this exit code.
//
//	exits CODE COMMAND [ARGUMENT ...]
func exits(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[0])
	if err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT ...]")
	}
	got := 0
	var exit *exec.ExitError
	switch err := ts.Exec(args[1], args[2:]...); {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != code {
		ts.Fatalf("exit code %d, want %d", got, code)
	}
}

// save keeps the output of the last command, or one field of it if it is JSON, in an environment variable.
//
//	save NAME [FIELD]
func save(ts *testscript.TestScript, neg bool, args []string) {
	value := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) > 1 {
		var fields map[string]any
		if err := json.Unmarshal([]byte(value), &fields); err != nil {
			ts.Fatalf("the output is no JSON object: %v", err)
		}
		for _, name := range args[1:] {
			if next, ok := fields[name].(map[string]any); ok {
				fields = next
				continue
			}
			value = fmt.Sprint(fields[name])
		}
	}
	ts.Setenv(args[0], value)
}

// shares takes the JSON output of "operator init", just made, apart: into the files share1, share2 ... (share1.hex ...
// for the other encoding, bad1 ... for a share that was mistyped) and the variable ROOT.
func shares(ts *testscript.TestScript, neg bool, args []string) {
	var init struct {
		Base64 []string `json:"unseal_keys_b64"`
		Hex    []string `json:"unseal_keys_hex"`
		Root   string   `json:"root_token"`
	}
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &init); err != nil {
		ts.Fatalf("the output is not that of init: %v", err)
	}
	for i := range init.Base64 {
		name := ts.MkAbs(fmt.Sprintf("share%d", i+1))
		ts.Check(os.WriteFile(name, []byte(init.Base64[i]+"\n"), 0o600))
		ts.Check(os.WriteFile(name+".hex", []byte(init.Hex[i]+"\n"), 0o600))
		b, err := hex.DecodeString(init.Hex[i])
		ts.Check(err)
		b[0] ^= 1
		ts.Check(os.WriteFile(ts.MkAbs(fmt.Sprintf("bad%d", i+1)), []byte(hex.EncodeToString(b)+"\n"), 0o600))
		ts.Setenv(fmt.Sprintf("SHARE%d", i+1), init.Hex[i])
	}
	ts.Setenv("ROOT", init.Root)
}

// answers writes down what somebody will type at a terminal: the contents of files, or empty lines for ”.
//
//	answers FILE SOURCE ...
func answers(ts *testscript.TestScript, neg bool, args []string) {
	var b bytes.Buffer
	for _, source := range args[1:] {
		if source == "" {
			b.WriteString("\n")
			continue
		}
		b.WriteString(strings.TrimSpace(ts.ReadFile(source)) + "\n")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}
