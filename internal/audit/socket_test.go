package audit

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func socketDevice(network, address string) Device {
	return Device{Path: "net/", Type: "socket", Options: map[string]string{"socket_type": network, "address": address}}
}

// shortDir is for sockets, whose paths may not be long.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func accept(t *testing.T, l net.Listener) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func wantPath(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if got := paths(t, line); len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestStreamSockets: lines arrive, and a peer that went away is connected to again without an entry being refused.
func TestStreamSockets(t *testing.T) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(shortDir(t), "s")} {
		t.Run(network, func(t *testing.T) {
			l := listen(t, network, address)
			r := newRig(t)
			if err := r.SetConfigured([]Device{socketDevice(network, l.Addr().String())}); err != nil {
				t.Fatal(err)
			}
			c, lines := accept(t, l)
			mustWrite(t, r.Broker, ask("one"))
			wantPath(t, lines, "one")
			c.Close()
			// What is written first after that may be lost in the kernel, if it does not know yet: the next is refused by it.
			arrived := make(chan *bufio.Reader)
			go func() {
				_, lines := accept(t, l)
				arrived <- lines
			}()
			for {
				mustWrite(t, r.Broker, ask("two"))
				select {
				case lines := <-arrived:
					wantPath(t, lines, "two")
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}

func TestSocketThatNobodyListensTo(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	address := l.Addr().String()
	l.Close()
	r := newRig(t)
	if err := r.SetConfigured([]Device{socketDevice("tcp", address)}); err == nil || !strings.Contains(err.Error(), "net/") {
		t.Errorf("error %v", err)
	}
}

// TestPeerThatDoesNotRead fails when its buffers are full, instead of waiting for ever.
func TestPeerThatDoesNotRead(t *testing.T) {
	l := listen(t, "unix", filepath.Join(shortDir(t), "s"))
	s := &settings{kind: kindSocket, network: "unix", address: l.Addr().String(), timeout: 10 * time.Millisecond}
	c, err := dial(s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	line := []byte(strings.Repeat("x", 1<<16) + "\n")
	for range 1000 {
		if n, err := c.write([][]byte{line}); err != nil {
			if n != 0 || !os.IsTimeout(err) {
				t.Errorf("%d lines, %v", n, err)
			}
			return
		}
	}
	t.Error("64 MiB were taken by a peer that reads nothing")
}

func TestDatagrams(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	r := newRig(t)
	if err := r.SetConfigured([]Device{socketDevice("udp", pc.LocalAddr().String())}); err != nil {
		t.Fatal(err)
	}
	// One that is too long fails by itself, and keeps nobody else's from being written.
	long := ask(strings.Repeat("x", maxDatagram))
	if err := r.Write(t.Context(), long); err != ErrUnwritten {
		t.Errorf("a line that is too long: %v", err)
	}
	mustWrite(t, r.Broker, ask("one"))
	packet := make([]byte, maxDatagram)
	n, _, err := pc.ReadFrom(packet)
	if err != nil {
		t.Fatal(err)
	}
	if got := paths(t, string(packet[:n])); len(got) != 1 || got[0] != "one" {
		t.Errorf("got %v", got)
	}
}

func TestSyslog(t *testing.T) {
	if !hasSyslog {
		t.Skip("this system has no syslog")
	}
	r := newRig(t)
	s, err := r.Broker.read(Device{Path: "a/", Type: "syslog", Options: map[string]string{"facility": "local3"}}, false)
	if err != nil {
		t.Fatal(err)
	}
	s.address = filepath.Join(shortDir(t), "log")
	pc, err := net.ListenPacket(syslogNetwork, s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c, err := dial(&s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if n, err := c.write([][]byte{[]byte("{1}\n"), []byte("{2}\n")}); n != 2 || err != nil {
		t.Fatalf("%d lines, %v", n, err)
	}
	for _, want := range []string{"{1}", "{2}"} {
		packet := make([]byte, 1024)
		n, _, err := pc.ReadFrom(packet)
		if err != nil {
			t.Fatal(err)
		}
		// Facility 19, severity 6.
		form := regexp.MustCompile(`^<158>1 2026-11-24T03:00:00\.123456Z \S+ quorate \d+ audit - ` + regexp.QuoteMeta(want) + `$`)
		if !form.Match(packet[:n]) {
			t.Errorf("message %q", packet[:n])
		}
	}
}
