package feedtest

import (
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Step says how one WatchBuckets call misbehaves. Each call takes the next
// step of the script; when there is none left, calls are served correctly.
type Step struct {
	// After is how many messages of the stream are sent before the step acts;
	// -1: act before the request is looked at, and send nothing.
	After int
	// Err ends the stream.
	Err error
	// Drop closes all connections of the server.
	Drop bool
	// Hang says nothing more, until the client goes away.
	Hang bool
	// Alter replaces each message, those before After included, by what it
	// returns; it may alter its argument. With Alter alone the stream goes on.
	Alter func(m *bucketv1.WatchBucketsResponse) []*bucketv1.WatchBucketsResponse
}

// Script appends steps to the script.
func (s *Scripted) Script(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = append(s.script, steps...)
}

// Error returns an error of the contract, for [Step].
func Error(code codes.Code, reason string) error {
	st, err := status.New(code, "scripted "+reason).WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "weir.bucket.v1"})
	if err != nil {
		panic(err) // only for codes.OK, which is no error of the contract
	}
	return st.Err()
}

// takeStep returns the next step, or nil.
func (s *Scripted) takeStep(req *bucketv1.WatchBucketsRequest) *Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, req)
	if len(s.script) == 0 {
		return nil
	}
	step := s.script[0]
	s.script = s.script[1:]
	return &step
}

// acts reports whether the step has an end to act on.
func (st *Step) acts() bool { return st.Err != nil || st.Drop || st.Hang }
