// Package reason makes the gRPC errors of the API: a code, a text without internal
// details, and a google.rpc.ErrorInfo with a reason for the client to act on.
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

// Error is a status with a reason, one of the list in service.proto. The text is sent to
// the client.
func Error(code codes.Code, reason, text string) error {
	return detailed(code, text, &errdetails.ErrorInfo{Reason: reason, Domain: Domain})
}

// Later is [Error] with the time to wait before a retry, in a google.rpc.RetryInfo.
// Every client gets the same time, so clients must add jitter.
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

// Withdrawn ends a stream whose credential was revoked. It asks the client to reconnect
// rather than rejecting it: the client may already have the new credential, and a
// rotation must not interrupt it.
func Withdrawn() error {
	return Error(codes.Unavailable, "CREDENTIAL_WITHDRAWN", "the credential of this stream was revoked; reconnect")
}

// process makes error ids differ between processes.
var process = func() (b [16]byte) {
	_, _ = rand.Read(b[:]) // never fails (crypto/rand since Go 1.24)
	return b
}()

// Internal is the status of an internal failure. The caller logs the failure with the
// id, which is also in the status. The same failure of the same call has the same id
// during the lifetime of the process, because it is not logged every time and the id
// must lead to the line.
func Internal(call, failure string) (id string, err error) {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %q %q", process, call, failure) // a hash takes everything
	id = hex.EncodeToString(h.Sum(nil)[:6])
	return id, Error(codes.Internal, "INTERNAL", "internal error "+id+"; see the collector's log")
}
