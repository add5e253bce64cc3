package cli

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/creachadair/command"
)

// unreleased is the version of a program built from no released module; clients parse versions, so it is one.
const unreleased = "0.0.0-dev"

const module = "github.com/quorate/quorate"

// version is what the Go toolchain recorded about this program.
type version struct {
	Version    string `json:"version"`
	Revision   string `json:"revision,omitempty"`
	CommitDate string `json:"commit_date,omitempty"`
	Modified   bool   `json:"modified,omitempty"`
	Go         string `json:"go"`
}

func readVersion() version {
	v := version{Version: unreleased}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	if m := info.Main; strings.HasPrefix(m.Version, "v") && m.Path == module {
		v.Version = strings.TrimPrefix(m.Version, "v")
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.CommitDate = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (a *app) versionCommand() *command.C {
	s := &session{app: a}
	return s.command(&command.C{Name: "version", Usage: "[flags]", Help: "Show the version of this program."}, offline|answers, 0, 0,
		func(context.Context, []string) error { return s.printVersion() })
}

func (s *session) printVersion() error {
	v := readVersion()
	text := "Quorate " + v.Version
	if v.Revision != "" {
		text += fmt.Sprintf(" (%.12s, %s)", v.Revision, v.CommitDate)
	}
	return s.print(v, func() string { return text + "\n" })
}
