package bucketsvc

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/rawcodec"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// sender sends one message: a rawcodec.Frame or a proto.Message.
type sender func(m any) error

// outlet sends a stream's messages and times the client.
type outlet struct {
	ss     grpc.ServerStream
	limits Limits
	stall  *time.Timer // fires if the client does not read

	// Inside a snapshot, which holds a transaction while its reader reads, waiting
	// adds up until the reader has read Limits.Pace bytes more.
	hurried atomic.Bool
	waited  time.Duration
	taken   int
}

// hurry switches the limits for snapshots on or off.
func (o *outlet) hurry(on bool) {
	o.hurried.Store(on)
	o.waited, o.taken = 0, 0
}

func (o *outlet) send(m any) error {
	most := o.limits.Stall
	if o.hurried.Load() {
		most = min(most, o.limits.Progress-o.waited)
	}
	began := time.Now()
	o.stall.Reset(max(most, 0))
	defer o.stall.Stop()
	if err := o.ss.SendMsg(m); err != nil {
		return reason.Sent(err) // the client disconnected: nobody receives it
	}
	o.waited += time.Since(began)
	switch m := m.(type) {
	case rawcodec.Frame:
		o.taken += len(m)
	case proto.Message:
		o.taken += proto.Size(m)
	}
	if o.taken >= o.limits.Pace {
		o.waited, o.taken = 0, 0
	}
	return nil
}

// outcome is how produce ended: with an error or with a panic.
type outcome struct {
	err      error
	panicked string
}

// stream runs produce with a sender and returns the client's status.
//
// Sending blocks while the client does not read, and gRPC has no deadline for it: the
// only way to abort is to return from the handler. So produce runs in its own
// goroutine, and this one, the handler, waits: it returns when produce does, or when
// one message has been blocked for Limits.Stall, or a snapshot for Limits.Progress. In
// that case the goroutine is still inside SendMsg; returning ends the stream, which
// makes SendMsg fail, and produce with it.
func (s *Server) stream(ss grpc.ServerStream, call string, produce func(ctx context.Context, out *outlet) error) error {
	release, err := s.admit()
	if err != nil {
		return s.status(ss.Context(), call, err)
	}
	ctx, cancel := context.WithCancelCause(ss.Context())
	defer cancel(nil)

	stall := time.NewTimer(s.c.Limits.Stall)
	stall.Stop()
	out := &outlet{ss: ss, limits: s.c.Limits, stall: stall}
	done := make(chan outcome, 1) // buffered: after a stall nobody receives
	go func() {
		defer release()
		var o outcome
		defer func() {
			// Passed to the handler's goroutine, where the recovery interceptor is.
			if p := recover(); p != nil {
				o.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
			done <- o
		}()
		o.err = produce(ctx, out)
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
				o.err = errDraining // whatever error the cancelled call returned
			}
			return s.status(ss.Context(), call, o.err)
		case <-stall.C:
			if out.hurried.Load() {
				return s.status(ss.Context(), call, errSlowSnapshot)
			}
			return s.status(ss.Context(), call, errStalled)
		case <-draining:
			cancel(errDraining)
			draining, drained = nil, true
		}
	}
}
