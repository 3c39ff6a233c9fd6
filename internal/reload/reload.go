// Package reload reloads files that are replaced while the process runs: tokens, keys,
// certificates and authorities.
//
// A [Value] is reloaded when it is used, and at each scrape of the process's own
// metrics, so that a change needs no signal and no restart. Watching folders would miss
// changes of mounts and symbolic links. Reading a small file takes microseconds; its
// content is compared, since times and inodes say little about mounted secrets.
//
// If a file is missing, empty, half written or invalid, the last valid value stays in
// use: rejecting every client, or sending an empty token, would make an outage of a
// mistake. Each fault is logged once and exported by the metrics of the [Watch].
package reload

import (
	"log/slog"
	"sync"
	"time"
)

// pause is the time between the two reads that must agree before a change is accepted.
// Not every writer replaces files atomically, and half a token looks like a token; but a
// write takes only milliseconds.
const pause = 50 * time.Millisecond

// Expiring is a value that is of no use after some time, such as a certificate.
type Expiring interface {
	// Expires is when; zero: never.
	Expires() time.Time
}

// Value is the last valid value of a set of files. R is their content, T the parsed
// value. Safe for concurrent use.
type Value[R comparable, T any] struct {
	read  func() (R, error)
	parse func(R) (T, error)

	mu sync.Mutex // guards the rest
	record
	content  R // of value
	value    T
	refused  R    // content that was read and is invalid
	refusing bool // whether refused is set
}

// record is the state of a secret for logs and metrics.
type record struct {
	name    string
	watch   *Watch
	changed time.Time // when the value in use was loaded
	fault   string    // why newer content is not in use; "" if there is none
	faults  int       // number of faults so far
}

func (r *record) adopted() {
	r.changed, r.fault = r.watch.now(), ""
	r.watch.logger().Info("secret reloaded", "secret", r.name)
}

func (r *record) fail(err error) {
	if err.Error() == r.fault {
		return
	}
	r.fault = err.Error()
	r.faults++
	r.watch.logger().Warn("cannot reload secret, using the last valid one", "secret", r.name, "err", err)
}

func (r *record) state() state {
	return state{name: r.name, usable: r.fault == "", faults: r.faults, changed: r.changed}
}

// Keep reads the files for the first time; its error is that of read or parse.
// Name is the setting that names the files, for logs and metrics, and is used
// once in a Watch. Errors of read and parse are logged, so they must not hold
// what is secret. A nil watch: nobody is told.
func Keep[R comparable, T any](watch *Watch, name string, read func() (R, error), parse func(R) (T, error)) (*Value[R, T], error) {
	v := &Value[R, T]{record: record{name: name, watch: watch}, read: read, parse: parse}
	var err error
	if v.content, err = read(); err != nil {
		return nil, err
	}
	if v.value, err = parse(v.content); err != nil {
		return nil, err
	}
	v.changed = watch.now()
	watch.add(v)
	return v, nil
}

// Get returns the value in force now, after a look at the files. It blocks for
// 50 ms when they have changed. The caller must not alter what it gets.
func (v *Value[R, T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.look()
	return v.value
}

func (v *Value[R, T]) look() {
	content, err := v.read()
	switch {
	case err != nil:
		v.fail(err)
		return
	case content == v.content:
		v.fault, v.refusing = "", false
		return
	case v.refusing && content == v.refused:
		return
	}
	time.Sleep(pause)
	again, err := v.read()
	if err != nil {
		v.fail(err)
		return
	}
	if again != content {
		return // somebody is writing; the next use looks again
	}
	value, err := v.parse(content)
	if err != nil {
		v.refused, v.refusing = content, true
		v.fail(err)
		return
	}
	v.content, v.value, v.refusing = content, value, false
	v.adopted()
}

// state is what the metrics show of a value.
type state struct {
	name             string
	usable           bool
	faults           int
	changed, expires time.Time
}

// state looks at the files, so that what is shown is as of now.
func (v *Value[R, T]) state() state {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.look()
	s := v.record.state()
	if e, ok := any(v.value).(Expiring); ok {
		s.expires = e.Expires()
	}
	return s
}

// Told is a secret of which only its use shows whether it works, such as a
// database's connection string: whoever reads and tries it tells the Told what
// came of it. Safe for concurrent use.
type Told struct {
	mu sync.Mutex // guards the rest
	record
}

// Tell returns the Told of a secret that was just read for the first time and
// works; name is that of [Keep]. A nil watch: nobody is told.
func Tell(watch *Watch, name string) *Told {
	t := &Told{record: record{name: name, watch: watch, changed: watch.now()}}
	watch.add(t)
	return t
}

// Note takes the outcome of a look: an error where what stands in the files
// cannot be used and what stood there before is, which is logged and counted
// once; changed where it has been put into use just now.
func (t *Told) Note(changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		t.fail(err)
	case changed:
		t.adopted()
	default:
		t.fault = ""
	}
}

func (t *Told) state() state {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record.state()
}

// Watch is a process's view of the values that it keeps: where it is logged
// what happens to them, and their metrics. It is a [prometheus.Collector]. A
// nil Watch logs and shows nothing.
type Watch struct {
	log   *slog.Logger
	clock func() time.Time

	mu     sync.Mutex // guards the rest
	values []interface{ state() state }
}

// NewWatch returns a watch that logs to log, which must not be nil, and tells
// the time of changes by clock.
func NewWatch(log *slog.Logger, clock func() time.Time) *Watch {
	return &Watch{log: log, clock: clock}
}

// Logger is where it logs; it discards for a nil Watch.
func (w *Watch) Logger() *slog.Logger { return w.logger() }

func (w *Watch) logger() *slog.Logger {
	if w == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.log
}

func (w *Watch) now() time.Time {
	if w == nil {
		return time.Time{}
	}
	return w.clock()
}

func (w *Watch) add(v interface{ state() state }) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values = append(w.values, v)
}
