package wire

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/quorate/quorate/compat/harness"
)

// deeds are the lines of a section "NAME !": a verb and its arguments, in which variables are filled in.
//
//	restart                      another process over the same store, which is then sealed
//	unseal                       the first shares are given, as many as it takes
//	wait DURATION                the clock moves
//	match REGEXP TEXT            TEXT must look so
//	same TEXT TEXT               the two must be the same
//	differ TEXT TEXT             the two must not be the same
//	decode VAR ENCODED OTP       VAR becomes what the client of an OTP makes of the encoded token
//	pgp NAME [HOW]               makes an OpenPGP key, HOW being sign-only, expired or revoked: see keyForms
//	join VAR NAME NAME           VAR becomes base64 of the two public keys, one after the other
//	decrypt VAR NAME MESSAGE     VAR becomes what is in a base64 message to that key
//	hex VAR TEXT                 VAR becomes the base64 of what TEXT is the hex of
//	unseen TEXT                  TEXT must have been in no reply, no log line and no audit entry
//	audit broken|whole           the standard output that audit devices write to breaks, or works again
//	audited TEXT...              one audit entry must hold each TEXT
//	unaudited TEXT...            no audit entry may hold any TEXT
var deeds = map[string]func(p *player, t *testing.T, arg []string){
	"restart": (*player).restart,
	"unseal":  func(p *player, t *testing.T, _ []string) { p.server.Unseal(t) },
	"wait":    (*player).wait,
	"match": func(_ *player, t *testing.T, arg []string) {
		if !regexp.MustCompile(arg[0]).MatchString(arg[1]) {
			t.Fatalf("%q does not match %s", arg[1], arg[0])
		}
	},
	"same": func(_ *player, t *testing.T, arg []string) {
		if arg[0] != arg[1] {
			t.Fatalf("%q is not %q", arg[0], arg[1])
		}
	},
	"differ": func(_ *player, t *testing.T, arg []string) {
		if arg[0] == arg[1] {
			t.Fatalf("both are %q", arg[0])
		}
	},
	"decode":    (*player).decode,
	"pgp":       (*player).pgp,
	"join":      (*player).join,
	"decrypt":   (*player).decrypt,
	"audit":     (*player).auditing,
	"audited":   (*player).audited,
	"unaudited": (*player).unaudited,
	"hex": func(p *player, t *testing.T, arg []string) {
		var b []byte
		if _, err := fmt.Sscanf(arg[1], "%x", &b); err != nil {
			t.Fatal(err)
		}
		p.vars[arg[0]] = base64.StdEncoding.EncodeToString(b)
	},
	"unseen": func(p *player, t *testing.T, arg []string) {
		if strings.Contains(p.seen.String()+p.server.Log.String()+p.trail.String(), arg[0]) {
			t.Fatalf("%s was in a reply, in the log or in an audit entry", arg[0])
		}
	},
}

func (p *player) deed(t *testing.T, name, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		words := strings.Fields(p.fill(t, line))
		if len(words) == 0 {
			continue
		}
		do := deeds[words[0]]
		if do == nil {
			t.Fatalf("%s: there is no deed %q", name, words[0])
		}
		t.Log(name+":", words[0])
		do(p, t, words[1:])
	}
}

func (p *player) restart(t *testing.T, _ []string) {
	before := p.server
	before.Stop()
	p.seen.WriteString(before.Log.String())
	o := p.options
	o.Uninitialised = true // the harness has nothing to initialise: the store holds a cluster
	p.server = harness.Start(t, o)
	p.server.Shares, p.server.Root = before.Shares, before.Root
}

func (p *player) wait(t *testing.T, arg []string) {
	d, err := time.ParseDuration(arg[0])
	if err != nil {
		t.Fatal(err)
	}
	p.clock.seconds.Add(int64(d / time.Second))
}

func (p *player) decode(t *testing.T, arg []string) {
	b, err := base64.RawStdEncoding.DecodeString(arg[1])
	if err != nil || len(b) != len(arg[2]) {
		t.Fatalf("%q is not unpadded base64 of %d bytes: %v", arg[1], len(arg[2]), err)
	}
	subtle.XORBytes(b, b, []byte(arg[2]))
	p.vars[arg[0]] = string(b)
}

func (p *player) pgp(t *testing.T, arg []string) {
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA256, Time: p.clock.now}
	how := strings.Join(arg[1:], " ")
	if how == "expired" {
		config.KeyLifetimeSecs = 60
		config.Time = func() time.Time { return p.clock.now().Add(-time.Hour) }
	}
	e, err := openpgp.NewEntity(arg[0], "", arg[0]+"@example.com", config)
	if err != nil {
		t.Fatal(err)
	}
	switch how {
	case "sign-only":
		e.Subkeys = nil
	case "revoked":
		if err := e.RevokeKey(packet.KeyCompromised, "lost", config); err != nil {
			t.Fatal(err)
		}
	}
	p.keys[arg[0]] = e
	p.keyForms(t, arg[0], e)
}

// keyForms makes the variables NAME.key (base64 of the binary public key), NAME.lines (the same with line breaks, as
// they look in a JSON string), NAME.secret (of the secret key), NAME.armor (armored, as in a JSON string),
// NAME.armor64 (base64 of the armored key) and NAME.fingerprint.
func (p *player) keyForms(t *testing.T, name string, e *openpgp.Entity) {
	var secret, armored bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&secret, nil); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&armored, openpgp.PublicKeyType, nil)
	if err == nil {
		_, err = w.Write(public(t, e))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	key := base64.StdEncoding.EncodeToString(public(t, e))
	p.vars[name+".key"] = key
	p.vars[name+".lines"] = key[:64] + `\n` + key[64:] + `\r\n`
	p.vars[name+".secret"] = base64.StdEncoding.EncodeToString(secret.Bytes())
	p.vars[name+".armor"] = strings.ReplaceAll(armored.String(), "\n", `\n`)
	p.vars[name+".armor64"] = base64.StdEncoding.EncodeToString(armored.Bytes())
	p.vars[name+".fingerprint"] = fmt.Sprintf("%x", e.PrimaryKey.Fingerprint)
}

func public(t *testing.T, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (p *player) join(t *testing.T, arg []string) {
	both := append(public(t, p.keys[arg[1]]), public(t, p.keys[arg[2]])...)
	p.vars[arg[0]] = base64.StdEncoding.EncodeToString(both)
}

func (p *player) decrypt(t *testing.T, arg []string) {
	message, err := base64.StdEncoding.DecodeString(arg[2])
	if err != nil {
		t.Fatalf("%q is not padded base64: %v", arg[2], err)
	}
	m, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{p.keys[arg[1]]}, nil, &packet.Config{Time: p.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(m.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	p.vars[arg[0]] = string(b)
}
