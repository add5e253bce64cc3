package cli

import (
	"bytes"
	"encoding/base64"
	"io"
	"os"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/rogpeppe/go-internal/testscript"
)

// pgpKey makes an OpenPGP key: NAME.pgp is the public key in binary, NAME.b64 in base64, NAME.asc armored, and
// NAME.secret the private one.
//
//	pgpkey NAME
func pgpKey(ts *testscript.TestScript, neg bool, args []string) {
	e, err := openpgp.NewEntity(args[0], "", args[0]+"@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	ts.Check(err)
	var public, private, text bytes.Buffer
	ts.Check(e.SerializePrivate(&private, nil))
	ts.Check(e.Serialize(&public))
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	ts.Check(err)
	_, err = w.Write(public.Bytes())
	ts.Check(err)
	ts.Check(w.Close())
	name := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(name+".pgp", public.Bytes(), 0o600))
	ts.Check(os.WriteFile(name+".b64", []byte(base64.StdEncoding.EncodeToString(public.Bytes())+"\n"), 0o600))
	ts.Check(os.WriteFile(name+".asc", text.Bytes(), 0o600))
	ts.Check(os.WriteFile(name+".secret", private.Bytes(), 0o600))
}

// pgpOpen decrypts a base64 message with the private key of NAME, and keeps what is in it in a variable and, as a line,
// in the file of that name.
//
//	pgpopen VARIABLE NAME MESSAGE
func pgpOpen(ts *testscript.TestScript, neg bool, args []string) {
	keys, err := openpgp.ReadKeyRing(strings.NewReader(ts.ReadFile(args[1] + ".secret")))
	ts.Check(err)
	message, err := base64.StdEncoding.DecodeString(args[2])
	ts.Check(err)
	m, err := openpgp.ReadMessage(bytes.NewReader(message), keys, nil, nil)
	ts.Check(err)
	b, err := io.ReadAll(m.UnverifiedBody)
	ts.Check(err)
	ts.Setenv(args[0], string(b))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(b, '\n'), 0o600))
}
