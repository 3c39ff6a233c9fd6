// Package carousel decides which windows of a dataset a scrape shows: always the newest
// few, and at times one page of older ones, so that in the course of a round each window
// inside the replay is shown. It is pure: the clock and the newest late commit are
// parameters, so all exposers of one history show the same.
//
// # Why pages
//
// A Prometheus that was away, or whose collector was, lacks windows that are older than
// the newest few. To repeat all of them in every scrape is not possible: from 33 samples
// of a series on, Prometheus appends each repeated sample again at every scrape. It is
// not cheap either. What is repeated out of order is written to blocks of its own every
// two hours, and each block that they overlap is then rewritten with all series of that
// Prometheus. The cost is the span of time that is repeated between two such
// compactions, not the number of samples.
//
// # Pages and turns
//
// The windows of a dataset are numbered from the Unix epoch, and a page is a fixed group
// of them. Time is divided into turns of five minutes, numbered from the epoch too. A
// page is in turn when its number equals that of the turn modulo the number of pages, so
// in as many turns as there are pages each has its turn once: a round. The page in turn
// is shown, or none is: while a round is due.
//
// # Rounds
//
// Rounds follow one another while a late commit is recent: a bucket that became final
// when it was older than the newest windows is shown twice. Otherwise there is one round
// in twelve hours, for a Prometheus that was away. A round is short and undivided,
// because the rewriting of blocks is then paid once for all pages of all datasets, and
// not for each page at a time of its own.
package carousel

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

const (
	// Turn is how long a page is shown: a Prometheus that scrapes once a minute gets it
	// several times, and one that fails a scrape gets it all the same.
	Turn = 5 * time.Minute
	// Every is the time from one round to the next when nothing is late.
	Every = 12 * time.Hour
	// Most is the number of windows that a scrape may show of a dataset.
	Most = 30

	// SmallSpan is what the newest windows cover where that are three to ten of them.
	SmallSpan = 30 * time.Minute

	page = 24 // windows, at most
)

// Span is what the newest windows of a size cover at least: half an hour, but at most
// ten windows, which is a third of what a scrape may show, and at least two, since with
// one a scrape that comes late would lose it.
func Span(size time.Duration) time.Duration { return max(2*size, min(10*size, SmallSpan)) }

// Late reports whether a bucket that was committed at a time was older by then than the
// newest windows are, so that a Prometheus that has scraped all along lacks it. What is
// collected on time is younger, by the delay of its dataset.
func Late(window bucket.Window, committed time.Time) bool {
	return committed.Sub(window.End.Std()) > Span(window.Len())
}

// Schedule is that of a dataset of one window size.
type Schedule struct {
	Newest int // windows that every scrape shows
	Page   int // windows of a page
	Pages  int // of a round; 0: the newest windows are all that there is
	size   time.Duration
}

// New returns the schedule of windows of a size whose samples are shown up to an age.
func New(size, age time.Duration) Schedule {
	s := Schedule{size: size, Newest: int((Span(size) + size - 1) / size)}
	s.Page = min(page, Most-s.Newest)
	if rest := age - time.Duration(s.Newest)*size; rest > 0 {
		length := time.Duration(s.Page) * size
		// A span that begins anywhere lies in one page more than it would fill.
		s.Pages = int((rest+length-1)/length) + 1
	}
	return s
}

// Round is how long a round takes.
func (s Schedule) Round() time.Duration { return time.Duration(s.Pages) * Turn }

// TurnOf is the number of the turn at a time.
func TurnOf(now time.Time) int64 { return floor(now.UnixNano(), int64(Turn)) }

// Begins is the beginning of a turn.
func Begins(turn int64) time.Time { return time.Unix(0, turn*int64(Turn)) }

// PageOf is the number of the page of the window that starts at a time.
func (s Schedule) PageOf(start bucket.Time) int64 {
	return floor(floor(int64(start), int64(s.size/time.Second)), int64(s.Page))
}

// Windows is the span of a page.
func (s Schedule) Windows(page int64) bucket.Window {
	start := bucket.Time(page * int64(s.Page) * int64(s.size/time.Second))
	return bucket.Window{Start: start, End: start.Add(time.Duration(s.Page) * s.size)}
}

// InTurn reports whether a page is in turn.
func (s Schedule) InTurn(page, turn int64) bool {
	return s.Pages > 0 && mod(page, int64(s.Pages)) == mod(turn, int64(s.Pages))
}

// Shows reports whether the page in turn is shown, where a round is due every so often
// and the newest late commit was at a time, the zero time if there is none.
func (s Schedule) Shows(turn int64, every time.Duration, late time.Time) bool {
	if s.Pages == 0 {
		return false
	}
	if !late.IsZero() && Begins(turn).Before(late.Add(2*s.Round())) {
		return true
	}
	return mod(turn, max(int64(every/Turn), int64(s.Pages))) < int64(s.Pages)
}

func floor(a, b int64) int64 { return (a - mod(a, b)) / b }

func mod(a, b int64) int64 { return ((a % b) + b) % b }
