package userpass

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"golang.org/x/crypto/bcrypt"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// maxPassword is what bcrypt takes. It ignores more, so more is refused.
const maxPassword = 72

// costKey holds the highest cost of any hash that the mount ever had.
const costKey = "cost"

var (
	errLong = fault.Newf(fault.Invalid, "the password is longer than %d bytes: choose a shorter one", maxPassword)
	errHash = fault.New(fault.Invalid, "password_hash must be a bcrypt hash of cost 10 to 14")
	errBoth = fault.New(fault.Invalid, "send password or password_hash, not both")
)

// hashOf returns the hash of the password in f, or the one in f; nil if there is neither.
func (m *method) hashOf(ctx context.Context, f *body.Fields) ([]byte, error) {
	password, given := f.Text("password"), bytes.Clone(f.Text("password_hash"))
	switch {
	case f.Err() != nil:
		return nil, f.Err()
	case len(password) > 0 && len(given) > 0:
		return nil, errBoth
	case len(password) > maxPassword:
		return nil, errLong
	case len(password) > 0:
		if err := m.enter(ctx); err != nil {
			return nil, err
		}
		defer m.leave()
		return bcrypt.GenerateFromPassword(password, m.cost)
	case len(given) > 0:
		if !acceptable.Match(given) {
			return nil, errHash
		}
		return given, nil
	}
	return nil, nil
}

// acceptable is all of a hash, because a comparison looks at its parts only when it is too late.
var acceptable = regexp.MustCompile(`^\$2[aby]\$1[0-4]\$[./A-Za-z0-9]{53}$`)

// enter waits for a turn to hash.
func (m *method) enter(ctx context.Context) error {
	select {
	case m.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *method) leave() { <-m.slots }

// decoy is a hash of some cost that no known password has.
func decoy(cost int) []byte {
	return fmt.Appendf(nil, "$2a$%02d$Jh2Zb0vY8q1dRkXoT5sWnuGm7fLpE3cAiUyVBtHxKzQe9Na4rDwCS", cost)
}

// highestCost is what every comparison in the mount costs, so that a login takes the same time whoever it is for.
func (m *method) highestCost(r store.Reader) (int, error) {
	record, err := engine.Get(r, costKey)
	if err != nil || record == nil {
		return m.cost, err
	}
	return strconv.Atoi(string(record))
}

// raiseCost notes the cost of a hash that is going to be stored.
func (m *method) raiseCost(tx store.Tx, hash []byte) error {
	of, err := bcrypt.Cost(hash)
	if err != nil {
		return err
	}
	highest, err := m.highestCost(tx)
	if err != nil || of <= highest {
		return err
	}
	return tx.Put(costKey, []byte(strconv.Itoa(of)))
}

// compare reports whether a password is that of a hash. It costs 2 to the power of highest whatever the hash is.
func compare(hash, password []byte, highest int) (bool, error) {
	of, err := bcrypt.Cost(hash)
	if err != nil {
		return false, err
	}
	if len(password) > maxPassword { // no password is; it costs the same
		hash, password = decoy(of), password[:maxPassword]
	}
	err = bcrypt.CompareHashAndPassword(hash, password)
	for range 1<<max(highest-of, 0) - 1 { // as many at this cost as make up for one at the highest
		_ = bcrypt.CompareHashAndPassword(decoy(of), password)
	}
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	return err == nil, err
}

// found is what a login reads of a name before it compares.
type found struct {
	hash    []byte
	highest int
}

func (m *method) look(ctx context.Context, r *engine.Request, name string) (f found, err error) {
	err = r.View(ctx, func(tx engine.Tx) error {
		salt, err := engine.Salt(tx)
		if err == nil {
			err = engine.NewLockout(salt, name).Check(tx, r.Now)
		}
		if err != nil {
			return err
		}
		if f.highest, err = m.highestCost(tx); err != nil {
			return err
		}
		u, err := get(tx, name)
		if err == nil && u != nil {
			f.hash = u.Hash
		}
		return err
	})
	return f, err
}

// login compares outside of any transaction, because that is slow. What it compared with must still be so when the token
// is made.
func (m *method) login(ctx context.Context, r *engine.Request) (*engine.Response, error) {
	name, err := engine.Name(r.Params["username"])
	if err != nil { // nobody can have it
		return nil, errLogin
	}
	password := r.Fields.Text("password")
	switch {
	case r.Fields.Err() != nil:
		return nil, r.Fields.Err()
	case len(password) == 0:
		return nil, errMissing
	}
	f, err := m.look(ctx, r, name)
	if err != nil {
		return nil, err
	}
	right, err := m.compare(ctx, f, password)
	if err != nil {
		return nil, err
	}
	return engine.Decide(ctx, r, func(tx engine.Tx) (refused, err error) { return finish(tx, r, name, f.hash, right) })
}

func (m *method) compare(ctx context.Context, f found, password []byte) (bool, error) {
	if err := m.enter(ctx); err != nil {
		return false, err
	}
	defer m.leave()
	if f.hash == nil {
		_, err := compare(decoy(f.highest), password, f.highest)
		return false, err
	}
	return compare(f.hash, password, f.highest)
}

// finish makes the token, or counts the failure and returns what the client is told.
func finish(tx engine.Tx, r *engine.Request, name string, hash []byte, right bool) (refused, err error) {
	salt, err := engine.NeedSalt(tx)
	if err != nil {
		return nil, err
	}
	lockout := engine.NewLockout(salt, name)
	if err := lockout.Check(tx, r.Now); err != nil {
		return nil, err
	}
	u, err := get(tx, name)
	if err != nil {
		return nil, err
	}
	if !right || u == nil || !bytes.Equal(u.Hash, hash) {
		return errLogin, lockout.Fail(tx, r.Now)
	}
	if err := lockout.Clear(tx); err != nil {
		return nil, err
	}
	if !engine.AllowedFrom(u.Token.BoundCIDRs, r.Client) {
		return nil, errFrom
	}
	return nil, tx.Login(engine.Login{
		Path: "login/" + name, DisplayName: "userpass-" + name, Metadata: map[string]string{"username": name}, Token: u.Token,
	})
}

var errFrom = fault.New(fault.Denied, "permission denied: this address is in none of the networks that the user may log in from")
