package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// How a watch deals with a connection that breaks or falls silent.
const (
	firstPause  = time.Second
	longestWait = 30 * time.Second
	silence     = 45 * time.Second // three times that between two signs of life
	longestLine = 1 << 20          // bytes of one event
)

// errWatchOver ends a watch: the ceremony has ended.
var errWatchOver = errors.New("the ceremony has ended")

// follow prints one line for each change, until the ceremony ends. A connection that breaks is made anew.
func (c *ceremonies) follow(ctx context.Context, args []string) error {
	nonce, rest, _, err := c.target(ctx, args, stateOpen, stateVerifying)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return localf("%w", errShareArgument)
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	c.open.SetClientTimeout(0) // of a whole answer, which takes as long as the ceremony
	w := &ceremonyWatch{ceremonies: c, nonce: nonce}
	if !c.printsRequest() {
		if err := w.begin(ctx); err != nil {
			return err
		}
	}
	for pause := firstPause; ; {
		seen := w.events
		err := w.once(ctx)
		switch {
		case errors.Is(err, errWatchOver):
			return nil
		case ctx.Err() != nil:
			return stuck("watching the ceremony", errInterrupted)
		case !lost(err):
			return err
		}
		if w.events > seen {
			pause = firstPause
		}
		c.say("the connection is lost, another try in %s: %s", pause, reasons(err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestWait)
	}
}

// lost reports whether another try may help. A server that is asked too much is not asked more.
func lost(err error) bool {
	if status := answered(err); status != 0 {
		return status >= http.StatusInternalServerError // sealed, too
	}
	// A request on the way, such as for a proof, may be lost as the stream may.
	return !errors.As(err, new(*failure)) || errors.As(err, new(*url.Error)) || errors.Is(err, io.ErrUnexpectedEOF)
}

// errStreamEnded is a stream that ended before the ceremony did.
var errStreamEnded = errors.New("the stream ended before the ceremony did")

type ceremonyWatch struct {
	*ceremonies
	nonce  string
	digest string   // as the server said when this began
	words  []string // of that digest, by what was shown
	events int
	line   string // the last one printed
}

// begin takes the words from the whole ceremony: events lack the keys of a rekey's recipients.
func (w *ceremonyWatch) begin(ctx context.Context) error {
	info, err := w.fetch(ctx, w.nonce)
	if err != nil {
		return err
	}
	a, err := info.attempt()
	if err != nil {
		w.say("warning: it has no words: %s", reasons(err))
		return nil
	}
	w.digest, w.words = info.Digest, a.Digest.Words()
	w.say("words: %s", strings.Join(w.words, " "))
	return nil
}

// once follows one connection to its end.
func (w *ceremonyWatch) once(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	req := w.open.NewRequest(http.MethodGet, "/v1/"+ceremoniesPath+"/"+w.nonce+"/watch")
	if req.Headers == nil {
		req.Headers = http.Header{}
	}
	req.Headers.Set("Accept", "text/event-stream")
	resp, err := w.open.RawRequestWithContext(once(ctx), req)
	if resp != nil {
		defer resp.Body.Close()
	}
	switch {
	case err != nil && answered(err) == 0 && !w.printsRequest():
		return err
	case err != nil:
		return hinted(asking("watching the ceremony", err), http.StatusTooManyRequests, "too many are watching: try again later, or look with quorate ceremony status "+w.nonce)
	}
	dead := time.AfterFunc(silence, stop)
	defer dead.Stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, longestLine)
	event, data := "", ""
	for lines.Scan() {
		dead.Reset(silence)
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch value = strings.TrimPrefix(value, " "); {
		case name == "event":
			event = value
		case name == "data":
			data += value
		case lines.Text() == "":
			if err := w.take(ctx, event, data); err != nil {
				return err
			}
			event, data = "", ""
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errStreamEnded
}

// take deals with one event. The one that ends a watch may say why, where that isn't the ceremony's own end.
func (w *ceremonyWatch) take(ctx context.Context, event, data string) error {
	if event == "end" {
		var end struct {
			State  string `json:"state"`
			Reason string `json:"reason"`
		}
		switch err := json.Unmarshal([]byte(data), &end); {
		case err == nil && end.Reason != "":
			return &failure{code: exitServer, action: "watching the ceremony", err: errors.New(end.Reason)}
		case err == nil && end.State == stateComplete:
			return errWatchOver
		}
		return &failure{code: exitServer, action: "watching the ceremony", err: fmt.Errorf("it ended without a result: %s", cmp.Or(visible(end.State, ""), "unknown"))}
	}
	if data == "" {
		return nil
	}
	w.events++
	info := &ceremonyInfo{}
	if err := json.Unmarshal([]byte(data), info); err != nil {
		return contradiction("an event is not a ceremony")
	}
	if err := w.same(ctx, w.nonce, info); err != nil {
		return err
	}
	if info.Digest == w.digest {
		info.Words = w.words
	}
	return w.printChange(info)
}

// printChange prints one line, unless it is the one printed last: a new connection begins with the present state.
func (w *ceremonyWatch) printChange(info *ceremonyInfo) error {
	format, err := w.out.format.resolve()
	if err != nil {
		return err
	}
	line := changeText(info)
	if line == w.line {
		return nil
	}
	w.line = line
	if format == "table" {
		line = timeText(time.Now()) + "  " + visible(line, "")
		if isTerminal(w.stdout) {
			line = fold(line, len("  "))
		}
		return w.write(line + "\n")
	}
	b, err := json.Marshal(info)
	if err != nil {
		return localf("encoding the output: %w", err)
	}
	return w.write(escaped(string(b)) + "\n") // one document a line, which is YAML too
}

func changeText(info *ceremonyInfo) string {
	text := fmt.Sprintf("%s %s: %s, %d of %d approvals", info.Kind, info.Nonce, info.State, info.Progress, info.Required)
	if len(info.Approvals) > 0 {
		text += " (holders " + actsText(info.Approvals) + ")"
	}
	if len(info.Objections) > 0 {
		text += ", objections by " + actsText(info.Objections)
	}
	if v := info.Verification; v != nil {
		text += fmt.Sprintf(", %d of %d new shares proved", v.Progress, v.Required)
		if len(v.Proofs) > 0 {
			text += " (holders " + actsText(v.Proofs) + ")"
		}
	}
	return text
}
