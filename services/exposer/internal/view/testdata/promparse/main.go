// Command promparse reads bodies on standard input and answers on standard
// output with what Prometheus's own parser, the one that its scrapes use, makes
// of them. It is built with the module file that pins Prometheus
// (tools/prometheus.mod) and talks gob, so that the exposer's module does not
// depend on Prometheus.
package main

import (
	"encoding/gob"
	"errors"
	"io"
	"log"
	"math"
	"os"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

type request struct {
	ContentType string
	Body        []byte
}

// entry is one line of meaning: a header or a sample.
type entry struct {
	Kind       string // help, type, unit, sample
	Name, Text string // of a header; Name also of a sample
	Labels     []string
	Bits       uint64 // of the value
	HasTime    bool
	Time       int64
}

type response struct {
	Entries []entry
	Error   string
}

func main() {
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var q request
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(parse(q)); err != nil {
			log.Fatal(err)
		}
	}
}

func parse(q request) (r response) {
	p, err := textparse.New(q.Body, q.ContentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	for err == nil {
		var kind textparse.Entry
		if kind, err = p.Next(); err != nil {
			break
		}
		var e entry
		header := func(kind string, name, text []byte) { e.Kind, e.Name, e.Text = kind, string(name), string(text) }
		switch kind {
		case textparse.EntryHelp:
			name, text := p.Help()
			header("help", name, text)
		case textparse.EntryType:
			name, text := p.Type()
			header("type", name, []byte(text))
		case textparse.EntryUnit:
			name, text := p.Unit()
			header("unit", name, text)
		case textparse.EntrySeries:
			_, at, value := p.Series()
			e.Kind, e.Bits = "sample", math.Float64bits(value)
			if e.HasTime = at != nil; e.HasTime {
				e.Time = *at
			}
			var set labels.Labels
			p.Labels(&set)
			set.Range(func(l labels.Label) {
				if l.Name == "__name__" {
					e.Name = l.Value
					return
				}
				e.Labels = append(e.Labels, l.Name, l.Value)
			})
		case textparse.EntryComment:
			continue
		default:
			r.Error = "an entry of another kind"
			return r
		}
		r.Entries = append(r.Entries, e)
	}
	if !errors.Is(err, io.EOF) {
		r.Error = err.Error()
	}
	return r
}
