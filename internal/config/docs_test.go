package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// everyOption is the names of all options of all blocks.
func everyOption() []string {
	c := empty()
	lists := [][]option{
		c.options(), c.Ceremony.options(), (&Storage{Type: StorageBolt}).options(), (&Listener{Type: TCP}).options(),
		(&Listener{Type: Unix}).options(), (&Listener{}).telemetry(), (&Storage{Type: StoragePostgreSQL}).options(),
		(&Storage{Type: StorageEtcd}).options(), (&Cluster{}).options(), (&Policy{}).options(), (&Mount{}).options(), (&Login{Kind: User}).options(""),
		(&Login{Kind: Role}).options(""),
	}
	names := append([]string{"description", "local"}, deviceOptions...)
	for _, list := range lists {
		for _, o := range list {
			names = append(names, o.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestDocumentation: the manual names every option, and its tables name nothing else.
func TestDocumentation(t *testing.T) {
	src, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	// Refused in every file, or accepted for other servers' files only.
	unnamed := []string{"cluster_address", "format", "log_raw", "token_policies", "ui"}
	options := everyOption()
	for _, name := range options {
		if named := strings.Contains(string(src), "`"+name+"`"); named == slices.Contains(unnamed, name) {
			t.Errorf("%s: in docs/configuration.md: %v", name, named)
		}
	}
	quoted := regexp.MustCompile("`([a-z_]+)`")
	for line := range strings.Lines(string(src)) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			if !slices.Contains(options, m[1]) {
				t.Errorf("docs/configuration.md has a key %s, which doesn't exist", m[1])
			}
		}
	}
}
