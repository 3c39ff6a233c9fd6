package e2e

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// What a client says and what a server does are both cut in their middle, also
// where one side says next to nothing.
func TestProxyCutsWhatEitherSideSays(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	const question, answer, rounds, connections = 100, 5000, 50, 40
	l := testkit.Listen(t)
	var all sync.WaitGroup
	var halves atomic.Int64 // questions of which a part arrived
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			all.Go(func() {
				defer conn.Close()
				asked, reply := make([]byte, question), make([]byte, answer)
				for {
					if n, err := io.ReadFull(conn, asked); err != nil {
						if n > 0 {
							halves.Add(1)
						}
						return
					}
					if _, err := conn.Write(reply); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	p := newProxy(t, l.Addr().String(), 1)
	p.cutWithin(rounds * answer / 2)
	partly := 0 // answers of which a part arrived
	talk := func() (cut bool) {
		conn, err := net.Dial("tcp", p.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		asked, reply := make([]byte, question), make([]byte, answer)
		for range rounds {
			if _, err := conn.Write(asked); err != nil {
				return true
			}
			if n, err := io.ReadFull(conn, reply); err != nil {
				if n > 0 {
					partly++
				}
				return true
			}
		}
		return false
	}
	for range connections {
		if !talk() {
			t.Errorf("a connection outlived %d bytes", rounds*(question+answer))
		}
	}
	testkit.Eventually(t, func() error {
		ofClient, ofServer := p.cuts()
		if ofClient+ofServer != connections || min(ofClient, ofServer) < connections/4 {
			return fmt.Errorf("%d questions and %d answers were cut, want %d in all", ofClient, ofServer, connections)
		}
		if halves.Load() < int64(ofClient/2) || partly < ofServer/2 {
			return fmt.Errorf("a part arrived of %d questions and %d answers; %d and %d were cut", halves.Load(), partly, ofClient, ofServer)
		}
		return nil
	})
}
