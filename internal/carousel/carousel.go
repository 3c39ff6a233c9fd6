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
// Rounds follow one another while a late commit is recent: a bucket with traffic that
// became final when it was older than the newest windows is shown twice. Otherwise there
// is one round in twelve hours, for a Prometheus that was away and for the zeros of quiet
// zones, which are often confirmed late. A round is short and undivided,
// because the rewriting of blocks is then paid once for all pages of all datasets, and
// not for each page at a time of its own. A scrape may ask for more rounds; which page is
// in turn does not depend on how many there are.
package carousel

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

const (
	// Turn is how long a page is shown: a Prometheus that scrapes once a minute gets it
	// several times, and one that fails a scrape gets it all the same.
	Turn = 5 * time.Minute
	// longest is the time from one round to the next when nothing is late.
	longest = 12 * time.Hour
	// Most is the number of windows that a scrape may show of a dataset.
	Most = 30

	// SmallSpan is what the newest windows cover where that are three to MostNewest of them.
	SmallSpan = 30 * time.Minute
	// MostNewest is the maximum number of newest windows: a third of what a scrape shows.
	MostNewest = Most / 3
	// Long is the length from which on a window is shown beside pages for [Young] only:
	// Prometheus takes samples in order within an hour of its newest one, and what is
	// repeated for longer is out of order, even if it is the newest of its series. Five
	// minutes less allow for clock skew and the duration of a scrape.
	Long  = time.Hour
	Young = 55 * time.Minute
	// LongSpan leaves a long window time to be scraped before it is no longer young.
	LongSpan = 45 * time.Minute

	page = 24 // windows, at most
)

// Span is the age up to which a bucket may be committed so that every Prometheus that
// scrapes gets it as one of the newest windows: half an hour, but at most ten windows,
// which is a third of what a scrape may show, and at least two, since with one a scrape
// that comes late would lose it; of long windows, as long as they are young.
func Span(size time.Duration) time.Duration {
	if size >= Long {
		return LongSpan
	}
	return max(2*size, min(MostNewest*size, SmallSpan))
}

// Late reports whether a bucket that was committed at a time was older by then than the
// newest windows are, so that a Prometheus that has scraped all along lacks it. What is
// collected on time is younger, by the delay of its dataset. A bucket that had an age
// already at which samples are no longer shown is not late: no page shows it.
func Late(window bucket.Window, committed time.Time, age time.Duration) bool {
	was := committed.Sub(window.End.Std())
	return was > Span(window.Len()) && was < age
}

// Schedule is that of a dataset of one window size.
type Schedule struct {
	Newest int // windows that every scrape shows; a long one only while it is young
	Page   int // windows of a page; at least 1
	Pages  int // of a round; 0: the newest windows are all that there is
	size   time.Duration
	age    time.Duration
}

// New returns the schedule of windows of a size whose samples are shown up to an age,
// of which a scrape may show so many: at most [Most], and at least one.
func New(size, age time.Duration, most int) Schedule {
	most = min(max(most, 1), Most)
	s := Schedule{size: size, age: age, Newest: min(most, int((Span(size)+size-1)/size))}
	s.Page = max(1, min(page, most-s.Newest))
	if rest := age - s.Covers(); rest > 0 && most > s.Newest {
		length := time.Duration(s.Page) * size
		// A span that begins anywhere lies in one page more than it would fill.
		s.Pages = int((rest+length-1)/length) + 1
	}
	return s
}

// Covers is the time for which a window is shown as one of the newest.
func (s Schedule) Covers() time.Duration {
	if s.size >= Long {
		return Young
	}
	return time.Duration(s.Newest) * s.size
}

// Round is how long a round takes.
func (s Schedule) Round() time.Duration { return time.Duration(s.Pages) * Turn }

// Every is the time from the beginning of one round to that of the next when nothing is
// late: half the age up to which samples are shown, so that each window has its turn
// while a Prometheus still takes its samples, and at most twelve hours. Rounds that take
// longer than that follow one another.
func (s Schedule) Every() time.Duration { return max(s.Round(), min(longest, s.age/2)) }

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

// InTurn is the page in turn, if there are pages: the oldest one with samples to be shown
// whose number equals that of the turn modulo the number of pages. One of the next round
// has none but the newest windows.
func (s Schedule) InTurn(turn int64) (page int64) {
	oldest := s.PageOf(bucket.TimeOf(Begins(turn).Add(-s.age)))
	return oldest + mod(turn-oldest, int64(s.Pages))
}

// Shows reports whether the page in turn is shown, where a round is due every so often
// ([Schedule.Every] or less) and the newest late commit was at a time, the zero time if
// there is none.
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
