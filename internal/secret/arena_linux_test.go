package secret

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's own account of the arena's pages: locked (lo), and not in dumps (dd).
func TestPagesAreProtected(t *testing.T) {
	a := NewArena(100)
	defer a.Close()
	if !a.Locked() {
		t.Skip("this system doesn't let the test lock a page")
	}
	s := mustHold(t, a, []byte(canary))
	flags := pageFlags(t, s.Reveal())
	for _, flag := range []string{"lo", "dd"} {
		if !slices.Contains(flags, flag) {
			t.Errorf("the page has the flags %v, not %s", flags, flag)
		}
	}
	if flags := pageFlags(t, make([]byte, 1<<16)); slices.Contains(flags, "dd") {
		t.Error("the heap has the flag as well: the test shows nothing")
	}
	a.Close()
	if a.Locked() {
		t.Error("closed, and still locked")
	}
}

// pageFlags reads the flags of the mapping that b is in, from proc(5) smaps.
func pageFlags(t *testing.T, b []byte) []string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	address, inside := uintptr(unsafe.Pointer(&b[0])), false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			inside = from <= address && address < to
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && inside {
			return strings.Fields(flags)
		}
	}
	t.Fatal("the mapping isn't listed")
	return nil
}

// inChild runs the calling test again in another process, where it may change what holds for the whole process. It
// reports whether this is the child.
func inChild(t *testing.T) bool {
	t.Helper()
	const mark = "QUORATE_TEST_CHILD"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), mark+"="+t.Name())
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in the child: %v\n%s", err, out)
	}
	return false
}

func TestDisableCoreDumps(t *testing.T) {
	if !inChild(t) {
		return
	}
	if err := DisableCoreDumps(); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("the limit is %+v, %v", limit, err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("the process is dumpable: %d, %v", dumpable, err)
	}
	if err := DisableCoreDumps(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// An arena on a system that grants no locked memory works, and says so.
func TestLockingRefused(t *testing.T) {
	if !inChild(t) {
		return
	}
	runtime.LockOSThread() // capabilities belong to a thread; it ends with the test
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
		t.Fatal(err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	a := NewArena(100)
	defer a.Close()
	if a.Locked() {
		t.Fatal("it says that it is locked")
	}
	if s := mustHold(t, a, []byte(canary)); string(s.Reveal()) != canary {
		t.Error("other bytes are held")
	}
	if _, err := a.Hold(make([]byte, 1<<20)); err == nil {
		t.Error("more is held than there is room")
	}
}
