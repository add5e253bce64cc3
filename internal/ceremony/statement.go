package ceremony

import (
	"crypto/sha256"
	"time"

	"github.com/quorate/quorate/internal/holder"
)

// Labels that separate these digests from an attempt's.
const (
	startLabel  = "quorate/v1/start-request"
	proveLabel  = "quorate/v1/verification"
	resultLabel = "quorate/v1/result"
	ackLabel    = "quorate/v1/acknowledge"
	resetLabel  = "quorate/v1/verification-reset"
)

// Statement is what the holder of slot signs to approve.
func (a *Attempt) Statement(slot int, mode holder.Mode) holder.Statement {
	if a.Kind == Drill {
		return a.statement(holder.ActionDrill, slot, mode)
	}
	return a.statement(holder.ActionApprove, slot, mode)
}

// CancelStatement is what the holder of slot signs to end the attempt, or to object to it.
func (a *Attempt) CancelStatement(slot int, mode holder.Mode) holder.Statement {
	return a.statement(holder.ActionCancel, slot, mode)
}

func (a *Attempt) statement(action holder.Action, slot int, mode holder.Mode) holder.Statement {
	return holder.Statement{
		Action: action, ClusterID: a.ClusterID, Generation: a.Generation, Slot: slot, Mode: mode, Digest: a.Digest,
	}
}

// StartWindow is how far At of a signed start may lie from the server's clock, before or behind.
const StartWindow = 5 * time.Minute

// Start is what a holder signs to start an attempt from afar. The attempt has no nonce yet, so that At bounds the
// signature in time, and whoever accepts it remembers its digest for as long, so that it is good once.
type Start struct {
	ClusterID  string
	Generation uint64
	Kind       Kind
	Parameters []Parameter // in any order
	Recipient  string      // as in Params; "otp" where the server shall make the OTP
	Reason     string
	TTL        time.Duration // whole milliseconds; 0: as the server is configured
	At         time.Time     // whole milliseconds
}

// Digest is SHA-256 over all that a start says.
func (s Start) Digest() Digest {
	var e encoder
	e.text(startLabel)
	e.text(s.ClusterID)
	e.number(s.Generation)
	e.text(string(s.Kind))
	e.parameters(sorted(s.Parameters))
	e.text(s.Recipient)
	e.text(s.Reason)
	e.duration(s.TTL)
	e.time(s.At)
	return sha256.Sum256(e)
}

// Statement is what the holder of slot signs to start.
func (s Start) Statement(slot int) holder.Statement {
	return holder.Statement{
		Action: holder.ActionStart, ClusterID: s.ClusterID, Generation: s.Generation, Slot: slot,
		Mode: holder.ModeSignature, Digest: s.Digest(),
	}
}

// ResultStatement is what the holder of slot signs to read the kept result of the ceremony with the nonce. Nothing is
// written down when they do, so the signature is good until at lies StartWindow behind.
func ResultStatement(clusterID string, generation uint64, slot int, mode holder.Mode, nonce string, at time.Time) holder.Statement {
	return timed(resultLabel, clusterID, generation, slot, mode, nonce, at)
}

// AcknowledgeStatement is what the holder of slot signs to have that result destroyed.
func AcknowledgeStatement(clusterID string, generation uint64, slot int, mode holder.Mode, nonce string, at time.Time) holder.Statement {
	return timed(ackLabel, clusterID, generation, slot, mode, nonce, at)
}

func timed(label, clusterID string, generation uint64, slot int, mode holder.Mode, nonce string, at time.Time) holder.Statement {
	var e encoder
	e.text(label)
	e.text(clusterID)
	e.number(generation)
	e.text(nonce)
	e.time(at)
	return holder.Statement{
		Action: holder.ActionProve, ClusterID: clusterID, Generation: generation, Slot: slot, Mode: mode,
		Digest: sha256.Sum256(e),
	}
}

// ResetStatement is what the holder of slot, of the generation in force, signs to begin a verification anew. The nonce
// is that of the verification, and another one afterwards, so the signature is good once.
func ResetStatement(clusterID string, generation uint64, slot int, mode holder.Mode, nonce string) holder.Statement {
	return nonced(holder.ActionCancel, resetLabel, clusterID, generation, slot, mode, nonce)
}

// ProveStatement is what the holder of slot signs to show that they have their share of a generation that isn't in
// force yet. The nonce is that of the verification, not of the attempt that made the generation.
func ProveStatement(clusterID string, generation uint64, slot int, mode holder.Mode, nonce string) holder.Statement {
	return nonced(holder.ActionProve, proveLabel, clusterID, generation, slot, mode, nonce)
}

func nonced(action holder.Action, label, clusterID string, generation uint64, slot int, mode holder.Mode, nonce string) holder.Statement {
	var e encoder
	e.text(label)
	e.text(clusterID)
	e.number(generation)
	e.text(nonce)
	return holder.Statement{
		Action: action, ClusterID: clusterID, Generation: generation, Slot: slot, Mode: mode, Digest: sha256.Sum256(e),
	}
}
