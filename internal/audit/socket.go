package audit

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
)

// maxDatagram is what a line may be long where each is a packet of its own.
const maxDatagram = 65_000

// hasSyslog: macOS and Windows have logs of their own kind.
const hasSyslog = runtime.GOOS != "windows" && runtime.GOOS != "darwin" && runtime.GOOS != "ios"

// severity is syslog's for what is worth knowing and no trouble.
const severity = 6

// connection is a socket, or syslog's.
type connection struct {
	net.Conn
	timeout time.Duration
	// frame makes a message of a line; nil where the line is the message.
	frame func(line []byte) []byte
}

func dial(s *settings) (sink, error) {
	c, err := net.DialTimeout(s.network, s.address, s.timeout)
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: c, timeout: s.timeout}
	if s.kind == kindSyslog {
		conn.frame = s.syslogFrame()
	}
	return conn, nil
}

// maxLine is how long a line may be.
func (s *settings) maxLine() int {
	if s.network == "udp" || s.network == syslogNetwork {
		return maxDatagram
	}
	return int(^uint(0) >> 1)
}

// syslogFrame puts lines into messages of RFC 5424.
func (s *settings) syslogFrame() func([]byte) []byte {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	return func(line []byte) []byte {
		head := fmt.Sprintf("<%d>1 %s %s %s %d audit - ", s.facility*8+severity,
			s.now().UTC().Format("2006-01-02T15:04:05.000000Z"), host, s.tag, os.Getpid())
		return append([]byte(head), bytes.TrimSuffix(line, []byte("\n"))...)
	}
}

// write has until the timeout for all lines together: those that wait for it have no more.
func (c *connection) write(lines [][]byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	for i, line := range lines {
		if c.frame != nil {
			line = c.frame(line)
		}
		if _, err := c.Write(line); err != nil {
			return i, err
		}
	}
	return len(lines), nil
}

func (c *connection) close() error { return c.Conn.Close() }
