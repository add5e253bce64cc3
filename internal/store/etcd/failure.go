package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/fault"
)

var (
	errUnreachable = fault.New(fault.Unavailable,
		"etcd can't be reached or has no leader: see that more than half of its members run, then try again")
	errUnknown = fault.New(fault.Unavailable,
		"etcd did not confirm the write, so whether it took effect is unknown: look before you try again")
	errBusy      = fault.New(fault.Unavailable, "etcd has too much to do: try again later")
	errCompacted = fault.New(fault.Unavailable,
		"etcd keeps removing the revision that is being read: make its --auto-compaction-retention longer, then try again")
	errDamaged = fault.New(fault.Unavailable,
		"the journal of a large change in etcd is damaged: restore the cluster from a backup")
	errRefused = fault.New(fault.Unavailable, "etcd refused the request: the server's log says why")
)

// known are the answers of etcd that somebody can do something about.
var known = map[error]*fault.Error{
	rpctypes.ErrNoSpace: fault.New(fault.Unavailable,
		"the database of etcd is full: compact and defragment it or raise --quota-backend-bytes, then disarm its NOSPACE alarm"),
	rpctypes.ErrAuthFailed: fault.New(fault.Unavailable,
		"etcd refused the user name and password: correct them in the storage settings"),
	rpctypes.ErrUserEmpty: fault.New(fault.Unavailable,
		"etcd wants a user name and password: give them in the storage settings"),
	rpctypes.ErrInvalidAuthToken: fault.New(fault.Unavailable,
		"etcd does not accept the login any more: see that the user still exists, then restart the server"),
	rpctypes.ErrPermissionDenied: fault.New(fault.Unavailable,
		"the user of etcd may not read and write everything below the prefix: grant its role readwrite on the prefix"),
	rpctypes.ErrTooManyOps: fault.New(fault.Unavailable,
		"etcd allows too few operations in a transaction: run it with --max-txn-ops=128, its default, or more"),
	rpctypes.ErrRequestTooLarge: fault.New(fault.Unavailable,
		"etcd allows too small requests: run it with --max-request-bytes=1572864, its default, or more"),
	rpctypes.ErrCorrupt: fault.New(fault.Unavailable,
		"etcd has found its members' data to differ: repair the cluster before anything else"),
	rpctypes.ErrTooManyRequests: errBusy,
}

// class is what an error of the client means.
type class struct {
	refused  bool // the request certainly had no effect
	passing  bool // it may succeed soon
	sentence *fault.Error
}

// keepDialError is an interceptor. The client tells a request that ended before there was a connection only as one that
// took too long, and so a write that was not sent couldn't be told from one that was.
func keepDialError(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if said := status.Convert(err).Message(); strings.Contains(said, whileDialing) {
		return status.Error(codes.Unavailable, said)
	}
	return err
}

// whileDialing is what errors of connections that were never made say.
const whileDialing = "while dialing"

func classify(err error) class {
	var answer rpctypes.EtcdError
	if !errors.As(err, &answer) {
		// An error of the connection. Only one from before there was a connection tells that nothing was sent.
		said := status.Convert(err).Message()
		if strings.Contains(said, whileDialing) {
			return class{refused: true, passing: true, sentence: errUnreachable}
		}
		if status.Code(err) == codes.ResourceExhausted && strings.Contains(said, "message larger than max") {
			return class{refused: true, sentence: known[rpctypes.ErrRequestTooLarge]}
		}
		switch status.Code(err) {
		case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
			return class{refused: true, sentence: errRefused}
		}
		return class{passing: true, sentence: errUnreachable}
	}
	if sentence := known[answer]; sentence != nil {
		return class{refused: true, passing: sentence == errBusy, sentence: sentence}
	}
	if answer == rpctypes.ErrNoLeader { // said before a request is looked at
		return class{refused: true, passing: true, sentence: errUnreachable}
	}
	switch answer.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		return class{passing: true, sentence: errUnreachable}
	}
	return class{refused: true, sentence: errRefused}
}

// wrap gives the cause its sentence.
func (c class) wrap(cause error) error { return fmt.Errorf("%w (%w)", c.sentence, cause) }
