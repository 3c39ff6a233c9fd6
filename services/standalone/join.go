package standalone

import (
	"context"
	"errors"
	"net"
	"sync"
)

// joined accepts the connections of several listeners, as one server's. Its address is that
// of the first.
type joined struct {
	all   []net.Listener
	conns chan net.Conn
	ctx   context.Context // ends when it is closed
	stop  context.CancelCauseFunc
	done  sync.WaitGroup
}

// join begins to accept. The caller closes the result, which closes all listeners.
func join(all ...net.Listener) *joined {
	j := &joined{all: all, conns: make(chan net.Conn)}
	j.ctx, j.stop = context.WithCancelCause(context.Background())
	for _, l := range all {
		j.done.Go(func() { j.accept(l) })
	}
	return j
}

func (j *joined) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			j.stop(err)
			return
		}
		select {
		case j.conns <- c:
		case <-j.ctx.Done():
			_ = c.Close() // nobody will serve it
			return
		}
	}
}

// Accept implements net.Listener.
func (j *joined) Accept() (net.Conn, error) {
	select {
	case c := <-j.conns:
		return c, nil
	case <-j.ctx.Done():
		return nil, context.Cause(j.ctx)
	}
}

// Close implements net.Listener.
func (j *joined) Close() error {
	j.stop(net.ErrClosed)
	var errs []error
	for _, l := range j.all {
		errs = append(errs, l.Close())
	}
	j.done.Wait()
	return errors.Join(errs...)
}

// Addr implements net.Listener.
func (j *joined) Addr() net.Addr { return j.all[0].Addr() }
