package httpapi

import (
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/quorate/quorate/internal/delivery"
)

// filled is a list of n texts that take up most of a body of two MiB, each made of part.
func filled(n int, part string) string {
	text := `"` + strings.Repeat(part, ((initBody-4<<10)/n-3)/len(part)) + `"`
	return "[" + strings.TrimSuffix(strings.Repeat(text+",", n), ",") + "]"
}

// Whoever has no share can make a start no dearer than the body that it comes in: with a signature of junk, which is
// looked at last, none of it is worth more than a few times its own size.
func TestJunkStartsAreCheap(t *testing.T) {
	s := ready(t, 3, 2)
	const hybrids = "good hybrid recipients"
	classic, hybrid := recipients(t, 16, false), recipients(t, 4, true)
	fine := func(*openpgp.Entity, *packet.Config) error { return nil }
	pgp, err := delivery.FromPGP([]byte(pgpKey(t, s.clock.now(), 0, fine)), s.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	junk := signatureBody(1, make([]byte, 64), fmt.Sprintf(`,"signed_at":%q,`, s.clock.now().Format(time.RFC3339)))
	text := func(part string) string { return strings.Trim(filled(1, part), "[]") }
	rekey := func(n int, more string) string {
		return fmt.Sprintf(`"kind":"rekey","secret_shares":%d,"secret_threshold":%d,%s`, n, min(n, 2), more)
	}
	key := base64.StdEncoding.EncodeToString([]byte("\x99\x01\x0d\x04" + strings.Repeat("\x00", 44)))
	for name, fields := range map[string]string{
		"a million labels":           `"kind":"holders","holders":` + text("a,"),
		"a million labels, escaped":  `"kind":"holders","holders":` + text(`a\u002c`),
		"as many labels as values":   `"kind":"holders","holders":` + filled(9_900, "a"),
		"long labels":                `"kind":"holders","holders":` + filled(255, "a"),
		"long labels, escaped":       `"kind":"holders","holders":` + filled(255, `\u0061`),
		"one long label":             `"kind":"holders","holders":` + filled(1, "é"),
		"a million labels of shares": rekey(3, `"holders":`+text("a,")),
		"long labels of shares":      rekey(255, `"holders":`+filled(255, "a")),
		"many keys":                  rekey(255, `"pgp_keys":`+filled(9_900, "A")),
		"long keys":                  rekey(255, `"pgp_keys":`+filled(255, "A")),
		"long keys, escaped":         rekey(255, `"pgp_keys":`+filled(255, `\u0041`)),
		"keys of packets":            rekey(255, `"pgp_keys":`+filled(255, key)),
		"one key of packets":         rekey(1, `"pgp_keys":`+filled(1, key)),
		"many age recipients":        rekey(255, `"age_recipients":`+filled(9_900, "age1")),
		"commas in age recipients":   rekey(255, `"age_recipients":`+filled(255, ",")),
		"lines in age recipients":    rekey(255, `"age_recipients":`+filled(255, `a\n`)),
		"one age recipient":          rekey(1, `"age_recipients":`+filled(1, "a,")),
		"a token's age recipients":   `"kind":"root-token","age_recipients":` + filled(9_900, "age1"),
		"the same as one text":       `"kind":"root-token","age_recipients":` + text("age1,"),
		"commas as the same":         `"kind":"root-token","age_recipients":` + text(","),
		"a token's key":              `"kind":"root-token","pgp_key":` + text("A"),
		"a token's key of packets":   `"kind":"root-token","pgp_key":` + text(key),
		"a reason":                   `"kind":"drill","reason":` + text("a"),
		"a kind":                     `"kind":` + text("a"),
		"unknown fields":             `"kind":"drill","x":` + filled(9_900, "a"),
		"good age recipients":        rekey(255, `"age_recipients":`+copies(255, classic)),
		hybrids:                      rekey(255, `"age_recipients":`+copies(255, hybrid)),
		"good keys":                  rekey(255, `"pgp_keys":`+copies(255, pgp.Key())),
	} {
		body := strings.TrimSuffix(junk, "}") + fields + "}"
		if len(body) > initBody {
			t.Fatalf("%s: a body of %d bytes", name, len(body))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s.do("POST", native, body, stranger).want(400)
		runtime.ReadMemStats(&after)
		most := uint64(5 * initBody)
		if name == hybrids {
			most = 32 * initBody // a key of ML-KEM becomes a matrix
		}
		if cost := after.TotalAlloc - before.TotalAlloc; cost > most {
			t.Errorf("%s: %d KiB of body cost %d KiB of memory", name, len(body)>>10, cost>>10)
		}
	}
	s.do("LIST", native, "").want(404)
}

// copies is a list of n times the same text.
func copies(n int, text string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(`"`+text+`",`, n), ",") + "]"
}

// recipients are n of age, as one text, of as many keys.
func recipients(t *testing.T, n int, hybrid bool) string {
	t.Helper()
	var list []string
	for range n {
		var id fmt.Stringer
		if hybrid {
			made, err := age.GenerateHybridIdentity()
			if err != nil {
				t.Fatal(err)
			}
			id = made.Recipient()
		} else {
			made, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			id = made.Recipient()
		}
		list = append(list, id.String())
	}
	return strings.Join(list, `\n`)
}

// A list with a value for each share that is longer than any generation is refused wherever there is one, by anybody.
func TestLongListsAreRefused(t *testing.T) {
	list, numbers := copies(256, "a"), `"secret_shares":255,"secret_threshold":255,`
	sealed, s := newServer(t), ready(t, 3, 2)
	for _, field := range []string{"holders", "pgp_keys", "age_recipients"} {
		want := `\"` + field + `\" must be a list of at most 255 strings`
		body := numbers + `"` + field + `":` + list + "}"
		sealed.do("PUT", "sys/init", "{"+body).want(400, want)
		for _, path := range []string{rekeyInit, rotateInit} {
			s.do("PUT", path, "{"+body, stranger).want(400, want)
		}
		for _, kind := range []string{"rekey", "rotate-root"} {
			s.do("POST", native, `{"kind":"`+kind+`",`+body, stranger).want(400, want)
		}
	}
	s.do("POST", native, `{"kind":"holders","holders":`+list+`}`).want(400, "at most 255 strings")
	s.do("POST", native, `{"kind":"holders","holders":"`+strings.Repeat("a,", 256)+`"}`).want(400, "at most 255 strings")
	s.do("POST", native, `{"kind":"root-token","age_recipients":`+list+`}`).want(400, "at most 255 strings")
	s.do("PUT", attempt, `{"age_recipients":`+list+`}`).want(400, "at most 255 strings")
}
