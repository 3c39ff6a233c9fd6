package export

import (
	"iter"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
)

// listed is a list of which the first bucket has been read.
type listed struct {
	first *history.Bucket // nil: the list is empty
	pull  func() (*history.Bucket, error, bool)
	stop  func()
}

func open(list iter.Seq2[*history.Bucket, error]) (listed, error) {
	pull, stop := iter.Pull2(list)
	l := listed{pull: pull, stop: stop}
	var err error
	if l.first, err = l.next(); err != nil {
		stop()
	}
	return l, err
}

// next returns the next bucket; nil after the last.
func (l *listed) next() (*history.Bucket, error) {
	b, err, more := l.pull()
	if !more || err != nil {
		return nil, err
	}
	return b, nil
}

func (l *listed) start() bucket.Time {
	if l.first == nil {
		return 0
	}
	return l.first.Start
}
