// Package reason makes the errors that the contract promises: a code, a calm
// text, and a google.rpc.ErrorInfo whose reason a client can act on.
package reason

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain qualifies the reasons.
const Domain = "weir.bucket.v1"

// Error is a status with a reason, one of the list in service.proto. The text
// goes to the client.
func Error(code codes.Code, reason, text string) error {
	return detailed(code, text, &errdetails.ErrorInfo{Reason: reason, Domain: Domain})
}

// Later is [Error] with the time that the client should wait before it asks
// again, in a google.rpc.RetryInfo. Every client is told the same, so the
// client is the one to add jitter.
func Later(code codes.Code, reason, text string, wait time.Duration) error {
	return detailed(code, text, &errdetails.ErrorInfo{Reason: reason, Domain: Domain}, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
}

func detailed(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	st, err := status.New(code, text).WithDetails(details...)
	if err != nil { // only for codes.OK
		return status.Error(code, text)
	}
	return st.Err()
}

// Withdrawn ends a stream whose credential is accepted no more. The client is told
// to connect again, not that it is refused: it may have the new credential since
// long, and a rotation must cost it nothing.
func Withdrawn() error {
	return Error(codes.Unavailable, "CREDENTIAL_WITHDRAWN", "the credential that this stream began with is not accepted any more; connect again")
}

// process makes the ids of one process its own.
var process = func() (b [16]byte) {
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return b
}()

// Internal is the answer to a failure that is none of the client's business. The
// caller logs what happened under the id, which names it in both places. The same
// failure, of the same call, has the same id for as long as the process lives: it
// is not logged each time, and whoever has the id shall find the line.
func Internal(call, failure string) (id string, err error) {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %q %q", process, call, failure) // a hash takes everything
	id = hex.EncodeToString(h.Sum(nil)[:6])
	return id, Error(codes.Internal, "INTERNAL", "internal error "+id+"; the collector's log has the rest")
}
