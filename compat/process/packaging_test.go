package process

import (
	"debug/elf"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/transcript"
)

const packaging = "../../packaging"

// packaged lists the files below packaging whose names end so.
func packaged(t *testing.T, endings ...string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(packaging, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains(endings, filepath.Ext(path)) {
			list = append(list, path)
		}
		return err
	})
	if err != nil || len(list) == 0 {
		t.Fatalf("%q: %v, %v", endings, list, err)
	}
	return list
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestExampleConfigurations: each one is valid, without a warning, and those of one cluster are of one cluster.
func TestExampleConfigurations(t *testing.T) {
	nodes := map[string]int{} // :: storage type → servers of the example
	addresses := map[string]bool{}
	for _, path := range packaged(t, ".hcl") {
		c, err := config.Load(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%s: %q", path, c.Warnings)
		}
		node := filepath.Base(filepath.Dir(path))
		if !c.Storage.Shared() {
			continue
		}
		nodes[c.Storage.Type]++
		if c.Cluster.NodeName != node || !strings.HasPrefix(c.Cluster.Advertise, node+":") || c.APIAddr != "https://"+node+":8200" || !c.Cluster.ShareUnseal {
			t.Errorf("%s: %+v, %s", path, c.Cluster, c.APIAddr)
		}
		if key := c.Storage.Type + c.Cluster.Advertise; addresses[key] {
			t.Errorf("%s: another server is at %s", path, c.Cluster.Advertise)
		} else {
			addresses[key] = true
		}
		for _, l := range c.Listeners {
			if l.OpenMetrics != strings.HasSuffix(l.Address, ":8202") {
				t.Errorf("%s: the listener at %s shows metrics: %v", path, l.Address, l.OpenMetrics)
			}
		}
	}
	if nodes[config.StoragePostgreSQL] != 3 || nodes[config.StorageEtcd] != 3 {
		t.Errorf("servers in the examples: %v", nodes)
	}
}

// TestExamplesAreComplete: what an example mounts is there, and its script makes every secret that its configurations name.
func TestExamplesAreComplete(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIPPED LOUDLY: there is no openssl on this machine, so the secrets of the examples were not made")
	}
	bin := build(t)
	for _, file := range packaged(t, ".yaml") {
		var compose struct {
			Services map[string]struct {
				Command any
				Volumes []string
			}
		}
		readYAML(t, file, &compose)
		secrets := t.TempDir()
		var args []string
		for _, name := range compose.Services["secrets"].Command.([]any) {
			args = append(args, name.(string))
		}
		cmd := exec.Command("sh", append([]string{packaging + "/examples/secrets.sh", secrets}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, out)
		}
		for name, service := range compose.Services {
			for _, volume := range service.Volumes {
				from, _, _ := strings.Cut(volume, ":")
				if !strings.HasPrefix(from, ".") {
					continue
				}
				path := filepath.Join(filepath.Dir(file), from)
				text := strings.ReplaceAll(readFile(t, path), "/secrets/", secrets+"/")
				for _, made := range regexp.MustCompile(regexp.QuoteMeta(secrets)+`/[a-z0-9./-]+`).FindAllString(text, -1) {
					if _, err := os.Stat(made); err != nil {
						t.Errorf("%s names %v", path, err)
					}
				}
				if !strings.HasSuffix(from, ".hcl") {
					continue
				}
				// The machine's own folders are not the container's.
				text = strings.ReplaceAll(text, "/var/lib/quorate", filepath.Join(secrets, name, "data"))
				own := filepath.Join(t.TempDir(), "quorate.hcl")
				if err := os.WriteFile(own, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(bin, "server", "-check", "-config="+own).CombinedOutput(); err != nil {
					t.Errorf("%s of %s: %v\n%s", from, file, err, out)
				}
			}
		}
	}
}

// TestMetricNames: every metric and every label that a rule or a panel asks for is in what a server tells.
func TestMetricNames(t *testing.T) {
	labels := scrapedLabels(t)
	var asked []string
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	readYAML(t, packaging+"/monitoring/alerts.yml", &rules)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			asked = append(asked, r.Expr)
			if r.Alert == "" || r.Annotations["summary"] == "" {
				t.Errorf("%+v says nothing", r)
			}
		}
	}
	var dashboard any
	if err := json.Unmarshal([]byte(readFile(t, packaging+"/monitoring/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	asked = append(asked, expressions(dashboard)...)
	if len(asked) < 20 {
		t.Fatalf("only %d expressions were found", len(asked))
	}
	metric := regexp.MustCompile(`\b((?:quorate|go|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`([a-z_]+)(=~|=)"([^"]*)"`)
	for _, expr := range asked {
		for _, m := range metric.FindAllStringSubmatch(expr, -1) {
			if labels[m[1]] == nil {
				t.Errorf("there is no metric %s: %s", m[1], expr)
			}
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !labels[m[1]][l[1]] {
					t.Errorf("%s has no label %s: %s", m[1], l[1], expr)
				}
				if l[1] == "event" && !transcript.Event(l[3]).Known() {
					t.Errorf("there is no event %s: %s", l[3], expr)
				}
			}
		}
	}
	var scrape map[string]any
	readYAML(t, packaging+"/monitoring/prometheus.yml", &scrape)
	if scrape["scrape_configs"] == nil {
		t.Errorf("%v", scrape)
	}
}

// expressions are what the panels of a dashboard ask for.
func expressions(v any) (list []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if s, ok := inner.(string); ok && name == "expr" {
				list = append(list, s)
			}
			list = append(list, expressions(inner)...)
		}
	case []any:
		for _, inner := range v {
			list = append(list, expressions(inner)...)
		}
	}
	return list
}

// scrapedLabels are the names of the labels of each series that an unsealed server tells, with those that Prometheus adds.
func scrapedLabels(t *testing.T) map[string]map[string]bool {
	s := newServer(t)
	text := `storage "bolt" { path = "data" }
listener "tcp" {
  address = "` + s.addr + `"
  telemetry { unauthenticated_metrics_access = true }
}`
	if err := os.WriteFile(filepath.Join(s.dir, "quorate.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	p := s.init(1, 1)
	s.unseal(p)
	attempt := s.must("POST", "sys/ceremonies", p.root, map[string]any{"kind": "drill"})
	nonce := attempt["data"].(map[string]any)["nonce"].(string)
	s.must("POST", "sys/ceremonies/"+nonce+"/approve", "", map[string]any{"key": p.shares[0]})
	res, err := http.Get("http://" + s.addr + "/v1/sys/metrics?format=prometheus")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]map[string]bool{}
	for name, f := range families {
		of := map[string]bool{"job": true, "instance": true}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				of[l.GetName()] = true
			}
		}
		if f.Metric[0].Histogram == nil {
			labels[name] = of
			continue
		}
		for _, ending := range []string{"_bucket", "_sum", "_count"} {
			labels[name+ending] = of
		}
	}
	return labels
}

// TestDockerfile runs the line that builds the program: it must need no library and no other file of a system.
func TestDockerfile(t *testing.T) {
	if runtime.GOOS != "linux" || testing.Short() {
		t.Skip("builds the program once more, for Linux")
	}
	text := readFile(t, packaging+"/Dockerfile")
	line := regexp.MustCompile(`(?m)^RUN (GOWORK=off CGO_ENABLED=0 go build .*)$`).FindStringSubmatch(text)
	if line == nil {
		t.Fatal("the Dockerfile has no line that builds the program")
	}
	out := t.TempDir()
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(line[1], "/out/", out+"/"))
	cmd.Dir = "../.."
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line[1], err, log)
	}
	f, err := elf.Open(filepath.Join(out, "usr/local/bin/quorate"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, _ := f.ImportedLibraries()
	if len(libraries) > 0 || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("it needs a loader, or the libraries %v", libraries)
	}
	last := text[strings.LastIndex(text, "\nFROM "):]
	if !strings.HasPrefix(last, "\nFROM scratch\n") || !strings.Contains(last, "\nUSER 65532:65532\n") {
		t.Errorf("the image is not an empty one with an account of its own:\n%s", last)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readFile(t, "../../go.mod"))
	if !strings.Contains(text, "FROM golang:"+version[1]+" ") {
		t.Errorf("the Dockerfile has another Go than go.mod, which says %s", version[1])
	}
}

func TestSystemdUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("SKIPPED LOUDLY: there is no systemd-analyze on this machine, so the unit was not checked")
	}
	const installed = "/usr/local/bin/quorate"
	text := readFile(t, packaging+"/systemd/quorate.service")
	if !strings.Contains(text, "ExecStart="+installed+" ") {
		t.Fatal("the unit doesn't start what it says is to be installed")
	}
	unit := filepath.Join(t.TempDir(), "quorate.service")
	if err := os.WriteFile(unit, []byte(strings.ReplaceAll(text, "ExecStart="+installed, "ExecStart="+build(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "unrecognized option") {
		t.Errorf("security: %v\n%s", err, out)
	}
}
