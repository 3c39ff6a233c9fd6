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
	"errors"
	"log/slog"
	"sync"
	"time"
)

// pause is the time between the two reads that must agree before a change is accepted.
// Not every writer replaces files atomically, and half a token looks like a token; but a
// write takes only milliseconds.
const pause = 50 * time.Millisecond

// Expiring is a value that expires, such as a certificate.
type Expiring interface {
	// Expires returns the time of expiry; zero: never.
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
	conflict bool // it was refused with a [Conflict]
}

// record is the state of a secret for logs and metrics.
type record struct {
	name    string
	watch   *Watch
	changed time.Time // when the value in use was loaded
	fault   string    // why newer content is not in use; "" if there is none
	faults  int       // number of faults so far
}

func (r *record) reloaded() {
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

// Conflict is an error of parse about something other than the content, which may change
// by itself: the content is parsed again at each use.
type Conflict struct{ error }

// Conflicts returns err as a [Conflict].
func Conflicts(err error) error { return Conflict{err} }

// NewValue reads the files for the first time; its error is that of read or parse.
// Name is the setting that names the files, for logs and metrics; it is unique within a
// Watch. Errors of read and parse are logged, so they must not contain secrets. With a
// nil watch, nothing is logged or exported.
func NewValue[R comparable, T any](watch *Watch, name string, read func() (R, error), parse func(R) (T, error)) (*Value[R, T], error) {
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

// Get reads the files and returns the value that is in use. It blocks for 50 ms when
// they have changed. The caller must not modify the value.
func (v *Value[R, T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reread()
	return v.value
}

func (v *Value[R, T]) reread() {
	content, err := v.read()
	switch {
	case err != nil:
		v.fail(err)
		return
	case content == v.content:
		v.fault, v.refusing = "", false
		return
	case v.refusing && content == v.refused && !v.conflict:
		return
	case v.refusing && content == v.refused:
		// It was stable before, and what it conflicts with may have changed.
	default:
		time.Sleep(pause)
		again, err := v.read()
		if err != nil {
			v.fail(err)
			return
		}
		if again != content {
			return // a write is in progress; the next use reads again
		}
	}
	value, err := v.parse(content)
	if err != nil {
		_, v.conflict = errors.AsType[Conflict](err)
		v.refused, v.refusing = content, true
		v.fail(err)
		return
	}
	v.content, v.value, v.refusing = content, value, false
	v.reloaded()
}

// state is the exported state of a value.
type state struct {
	name             string
	usable           bool
	faults           int
	changed, expires time.Time
}

// state reads the files first, so that the metrics are current.
func (v *Value[R, T]) state() state {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reread()
	s := v.record.state()
	if e, ok := any(v.value).(Expiring); ok {
		s.expires = e.Expires()
	}
	return s
}

// Tracked is the state of a secret that only its use can validate, such as a
// database's connection string. The code that reads and tries it reports the outcome.
// Safe for concurrent use.
type Tracked struct {
	mu sync.Mutex // guards the rest
	record
}

// Track returns the state of a secret that was just read for the first time and
// works. The name is as in [NewValue]. With a nil watch, nothing is logged or exported.
func Track(watch *Watch, name string) *Tracked {
	t := &Tracked{record: record{name: name, watch: watch, changed: watch.now()}}
	watch.add(t)
	return t
}

// Report records the outcome of a read. An error means that the new content cannot be
// used and the previous content stays in use; it is logged and counted once. Changed
// means that new content is now in use.
func (t *Tracked) Report(changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		t.fail(err)
	case changed:
		t.reloaded()
	default:
		t.fault = ""
	}
}

func (t *Tracked) state() state {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record.state()
}

// Watch logs the reloads of a process's secrets and exports their metrics. It is a
// [prometheus.Collector]. A nil Watch logs and exports nothing.
type Watch struct {
	log   *slog.Logger
	clock func() time.Time

	mu     sync.Mutex // guards the rest
	values []interface{ state() state }
}

// NewWatch returns a watch that logs to log, which must not be nil, and takes the time
// of changes from clock.
func NewWatch(log *slog.Logger, clock func() time.Time) *Watch {
	return &Watch{log: log, clock: clock}
}

// Logger returns its logger, which discards everything for a nil Watch.
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
