// Command quorate is a secrets server that a quorum of key holders controls, and its command line.
package main

import (
	"os"

	"github.com/quorate/quorate/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
