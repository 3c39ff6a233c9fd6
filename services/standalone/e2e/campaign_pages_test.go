package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// reader scrapes both exposers all the time, as Prometheus does, and remembers
// what each revision looked like in each turn. It has one body, whichever exposer
// gives it and however often it was restarted, unless that says that pages are still
// missing (G5); an exposer never shows less
// than it did, since a snapshot of a store is never older than one before; and
// a body that says it is whole is.
type reader struct {
	mu     sync.Mutex
	bodies map[string][sha256.Size]byte // by revision and turn
	newest map[string]uint64            // by exposer
	pages  int
	wrong  []string
}

// read begins to read; everything ends with the test.
func (c *campaign) read() {
	c.reader = &reader{bodies: map[string][sha256.Size]byte{}, newest: map[string]uint64{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, address := range c.data {
		wg.Go(func() {
			for ctx.Err() == nil {
				c.reader.page(ctx, address)
				select {
				case <-ctx.Done():
				case <-time.After(300 * time.Millisecond):
				}
			}
		})
	}
	c.t.Cleanup(func() { cancel(); wg.Wait() })
}

// page looks at one exposer's page, if there is one now.
func (r *reader) page(ctx context.Context, address string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		r.accuse("%v", err)
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return // it is down, or paused
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return // cut off, and the reader knows; or not ready
	}
	revision, err := strconv.ParseUint(response.Header.Get("X-Weir-Revision"), 10, 64)
	if err != nil {
		r.accuse("%s serves %d bytes without a revision", address, len(body))
		return
	}
	whole := response.Header.Get("X-Weir-Pages-Missing") == ""
	r.saw(address, revision, position(response.Header), whole, sha256.Sum256(body))
}

func (r *reader) saw(address string, revision uint64, view string, whole bool, sum [sha256.Size]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages++
	if whole {
		if before, known := r.bodies[view]; known && before != sum {
			r.wrong = append(r.wrong, fmt.Sprintf("%s serves other bytes for %s than were served before", address, view))
		}
		r.bodies[view] = sum
	}
	if revision < r.newest[address] {
		r.wrong = append(r.wrong, fmt.Sprintf("%s went from revision %d back to %d", address, r.newest[address], revision))
	}
	r.newest[address] = revision
}

func (r *reader) accuse(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// checkPages reports what was wrong with the pages that were read.
func (c *campaign) checkPages() {
	r := c.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	c.violations("pages", r.wrong)
	c.pages = r.pages
	c.t.Logf("%d pages of %d views read meanwhile", r.pages, len(r.bodies))
	if r.pages < 20 {
		c.t.Errorf("only %d pages could be read: the test has lost its subject", r.pages)
	}
}
