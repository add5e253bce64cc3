package httpapi

import (
	"net/http"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

// piecePatience is how long a client may take to receive one piece of a snapshot: while it does, the store keeps what is
// overwritten.
const piecePatience = 30 * time.Second

const octets = "application/octet-stream"

func snapshotRoutes() []route {
	r := route{
		authority: byToken, sudo: true, raw: true, endless: true, media: octets, limit: smallBody,
		ops: map[operation]handler{opRead: saveSnapshot}, summary: "the whole store as it is, encrypted, to restore it from",
	}
	other := r
	r.path, other.path = "sys/storage/snapshot", "sys/storage/raft/snapshot"
	return []route{r, other}
}

// saveSnapshot streams the store. A reply that could not be finished ends without its end mark, and the connection with it.
func saveSnapshot(x *exchange) (*reply, error) {
	save, err := x.Node.Snapshot(x.r.Context(), x.access(), snapshot.Header{Version: x.Version, StorageType: x.StorageType})
	if err != nil {
		return nil, err
	}
	return &reply{stream: func() {
		out := &download{x: x, rc: http.NewResponseController(x.w)}
		if x.r.Method == http.MethodHead {
			out.begin()
			return
		}
		err := save(out)
		switch {
		case err == nil:
		case x.status == 0:
			x.respondError(err)
		default:
			x.logFailure(err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

// download is a reply that is sent in pieces, each within a time of its own.
type download struct {
	x  *exchange
	rc *http.ResponseController
}

func (d *download) begin() {
	d.x.w.Header().Set("Content-Type", octets)
	_ = d.rc.SetReadDeadline(time.Time{}) // a client that receives sends nothing
	d.x.status = http.StatusOK
	d.x.w.WriteHeader(d.x.status)
}

// Write implements io.Writer.
func (d *download) Write(p []byte) (int, error) {
	_ = d.rc.SetWriteDeadline(time.Now().Add(piecePatience))
	if d.x.status == 0 {
		d.begin()
	}
	return d.x.w.Write(p)
}
