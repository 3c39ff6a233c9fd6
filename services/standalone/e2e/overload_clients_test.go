package e2e

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowd is everybody who asks at one time, and what they saw.
type crowd struct {
	t    *testing.T
	over chan struct{} // closed when it is time to go
	all  sync.WaitGroup

	mu      sync.Mutex
	clients []*http.Client
	took    map[string][]time.Duration // by kind of request
	codes   map[string]map[string]int  // by kind: status or code
}

func newCrowd(t *testing.T) *crowd {
	return &crowd{t: t, over: make(chan struct{}), took: map[string][]time.Duration{}, codes: map[string]map[string]int{}}
}

// member runs work again and again until it is time to go.
func (c *crowd) member(work func()) {
	c.all.Go(func() {
		for {
			select {
			case <-c.over:
				return
			default:
				work()
			}
		}
	})
}

// end waits until a time has passed and everybody has gone.
func (c *crowd) end(after time.Duration) {
	select {
	case <-time.After(after):
	case <-c.t.Context().Done():
	}
	close(c.over)
	c.all.Wait()
	for _, client := range c.clients {
		client.CloseIdleConnections()
	}
}

func (c *crowd) saw(kind, code string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.codes[kind] == nil {
		c.codes[kind] = map[string]int{}
	}
	c.codes[kind][code]++
	c.took[kind] = append(c.took[kind], took)
}

func (c *crowd) count(kind, code string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.codes[kind][code]
}

// report logs how long each kind of request took, and how it was answered.
func (c *crowd) report() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, took := range c.took {
		slices.Sort(took)
		at := func(q float64) time.Duration {
			return took[int(q*float64(len(took)-1))].Round(100 * time.Microsecond)
		}
		c.t.Logf("%-24s %5d requests, p50 %s, p99 %s, answered %v", kind, len(took), at(0.5), at(0.99), c.codes[kind])
	}
}

// caller is a client with connections of its own, which end with the crowd.
func (c *crowd) caller() *http.Client {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1}}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clients = append(c.clients, client)
	return client
}

// scrape asks for /metrics and holds the body against what it must be. A body
// with status 200 is right as far as it goes, and whole unless the connection
// breaks, which happens to whoever reads too slowly: on a machine with other
// work that may be one of us. Whoever is refused is told why and when to come
// again.
func (c *crowd) scrape(from *http.Client, kind, url, accept, encoding string, want []byte) {
	began, outcome := time.Now(), ""
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		c.t.Error(err)
		return
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := from.Do(req)
	if err != nil {
		c.t.Errorf("%s: %v", kind, err)
		return
	}
	defer resp.Body.Close()
	outcome = strconv.Itoa(resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusOK:
		match := &matcher{want: want}
		var body io.Reader = resp.Body
		if resp.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				c.t.Errorf("%s: %v", kind, err)
				return
			}
		}
		switch _, err := io.Copy(match, body); {
		case errors.Is(err, io.ErrUnexpectedEOF):
			outcome = "cut"
		case err != nil || len(match.want) > 0:
			c.t.Errorf("%s: status 200 with another body: %v, %d bytes are missing", kind, err, len(match.want))
		}
	case http.StatusServiceUnavailable:
		reason, err := io.ReadAll(resp.Body)
		if err != nil || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(reason), "concurrent scrapes") && !strings.Contains(string(reason), "different responses") {
			c.t.Errorf("%s: refused with Retry-After %q and %q, %v", kind, resp.Header.Get("Retry-After"), reason, err)
		}
	default:
		c.t.Errorf("%s: %s", kind, resp.Status)
	}
	c.saw(kind, outcome, time.Since(began))
}

// matcher takes exactly what it wants.
type matcher struct{ want []byte }

func (m *matcher) Write(p []byte) (int, error) {
	if len(p) > len(m.want) || !bytes.Equal(p, m.want[:len(p)]) {
		return 0, constError("the body differs")
	}
	m.want = m.want[len(p):]
	return len(p), nil
}

// probe asks for something small that must always be answered.
func (c *crowd) probe(from *http.Client, kind, url string) {
	began := time.Now()
	resp, err := from.Get(url)
	if err != nil {
		c.t.Errorf("%s: %v", kind, err)
		return
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Errorf("%s: %s, %v", kind, resp.Status, err)
	}
	c.saw(kind, strconv.Itoa(resp.StatusCode), time.Since(began))
}

// raw is a connection that is up to no good: it sends a beginning, then again
// and again a piece, and reads a little each time, or nothing. When the other
// side closes it, it comes back.
func (c *crowd) raw(address, begin, again string, read int) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return // refused: fair enough
	}
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	defer conn.Close()
	buf := make([]byte, read)
	_, err = io.WriteString(conn, begin)
	for err == nil {
		if again != "" {
			_ = conn.SetWriteDeadline(time.Now().Add(250 * time.Millisecond))
			if _, err = io.WriteString(conn, again); os.IsTimeout(err) {
				err = nil
			}
		}
		if read > 0 && err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
			if _, err = conn.Read(buf); os.IsTimeout(err) {
				err = nil
			}
		}
		select {
		case <-c.over:
			return
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// memory is a line of what the kernel says of the process, as [memoryOf].
func (p *process) memory(line string) float64 {
	p.t.Helper()
	return memoryOf(p.t, p.cmd.Process.Pid, line)
}

// memoryOf is a line of what the kernel says of a process, in MiB: VmHWM is the
// most that was ever resident, VmRSS what is now.
func memoryOf(t *testing.T, pid int, line string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, line+":"); ok {
			kB, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kB / 1024
		}
	}
	t.Fatalf("no %s of process %d", line, pid)
	return 0
}

// sockets is how many file descriptors of a process are sockets.
func (p *process) sockets() (n int) {
	p.t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}
