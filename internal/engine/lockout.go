package engine

import (
	"context"
	"encoding/json"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// So many failed logins within the time lock a name for the same time.
const (
	LockoutFailures = 5
	LockoutTime     = 15 * time.Minute
)

const lockoutPrefix = "lockout/"

// ErrLocked answers every login under a locked name, right or wrong.
var ErrLocked = fault.Newf(fault.Denied,
	"permission denied: %d logins with this name have failed: wait %d minutes, then try again", LockoutFailures, int(LockoutTime.Minutes()))

// Lockout counts failed logins under one name. It is the same for a name that nobody has, so it tells nothing about who
// exists, and there is nothing in its record or key but a digest and times.
type Lockout struct{ key string }

// NewLockout returns the count for a name, which must be in the one form that the login looks it up with.
func NewLockout(salt []byte, name string) Lockout {
	return Lockout{lockoutPrefix + Digest(salt, "lockout", []byte(name))}
}

// Check is ErrLocked while the name is locked. A login asks in the transaction that makes its token, so that of many
// guesses at the same time no more are heard than one after the other.
func (l Lockout) Check(r store.Reader, now time.Time) error {
	times, err := l.times(r)
	if err == nil && locked(times, now) {
		return ErrLocked
	}
	return err
}

// Fail counts one more failed login.
func (l Lockout) Fail(tx store.Tx, now time.Time) error {
	times, err := l.times(tx)
	if err != nil || locked(times, now) {
		return err
	}
	var recent []int64
	for _, t := range times {
		if age(t, now) < LockoutTime {
			recent = append(recent, t)
		}
	}
	return PutJSON(tx, l.key, append(recent, now.Unix()))
}

// Clear forgets the failures, after a login.
func (l Lockout) Clear(tx store.Tx) error {
	if record, err := Get(tx, l.key); err != nil || record == nil {
		return err
	}
	return tx.Delete(l.key)
}

// times are those of the failures in Unix seconds, the oldest first.
func (l Lockout) times(r store.Reader) ([]int64, error) {
	times, err := GetJSON[[]int64](r, l.key)
	if err != nil || times == nil {
		return nil, err
	}
	return *times, nil
}

func locked(times []int64, now time.Time) bool {
	return len(times) >= LockoutFailures && age(times[len(times)-1], now) < LockoutTime
}

func age(t int64, now time.Time) time.Duration { return now.Sub(time.Unix(t, 0)) }

// SweepLockouts removes the counts that don't matter any more.
func SweepLockouts(ctx context.Context, st store.Store, now time.Time) error {
	return SweepStale(ctx, st, lockoutPrefix, func(e store.Entry) (stale, more bool) {
		var times []int64
		err := json.Unmarshal(e.Value, &times)
		return err != nil || len(times) == 0 || age(times[len(times)-1], now) >= LockoutTime, true
	}, func(tx store.Tx, e store.Entry) error { return tx.Delete(e.Key) })
}
