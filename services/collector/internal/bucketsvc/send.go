package bucketsvc

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
)

// sender sends one message: a rawcodec.Frame or a proto.Message.
type sender func(m any) error

// outcome is how produce ended: with an error or with a panic.
type outcome struct {
	err      error
	panicked string
}

// stream runs produce with a sender and returns what the client shall get.
//
// Sending blocks while the client makes no room, and gRPC has no deadline for
// it: the only way to break off is to return from the handler. So produce runs
// in a goroutine of its own, and this one, the handler, watches: it returns when
// produce does, or when one message has been waiting for Limits.Stall. In that
// case the goroutine is still inside SendMsg; returning ends the stream, which
// makes SendMsg fail, and produce with it.
func (s *Server) stream(ss grpc.ServerStream, call string, produce func(ctx context.Context, send sender) error) error {
	release, err := s.admit()
	if err != nil {
		return s.status(ss.Context(), call, err)
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)

	stall := time.NewTimer(s.c.Limits.Stall)
	stall.Stop()
	send := func(m any) error {
		stall.Reset(s.c.Limits.Stall)
		defer stall.Stop()
		if err := ss.SendMsg(m); err != nil {
			return &sendError{err}
		}
		return nil
	}
	done := make(chan outcome, 1) // buffered: after a stall nobody receives
	go func() {
		defer release()
		var o outcome
		defer func() {
			// Handed to the handler's goroutine, where the server's recovery is.
			if p := recover(); p != nil {
				o.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
			done <- o
		}()
		o.err = produce(ctx, send)
	}()

	draining := s.draining
	drained := false
	for {
		select {
		case o := <-done:
			if o.panicked != "" {
				panic(o.panicked)
			}
			if drained {
				o.err = errDraining // whatever the cancelled call made of it
			}
			return s.status(ss.Context(), call, o.err)
		case <-stall.C:
			return s.status(ss.Context(), call, errStalled)
		case <-draining:
			cancel(errDraining)
			draining, drained = nil, true
		}
	}
}
