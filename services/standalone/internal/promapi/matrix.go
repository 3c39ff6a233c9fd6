package promapi

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unsafe"

	"github.com/weir-metrics/weir/internal/sample"
)

// matrix is the response to a query for raw samples.
type matrix struct {
	status, kind, failure string
	series                []Series
	histograms            bool
	// warnings are those of the response: a server that asked several stores, some of which
	// did not answer, answers with a part of the samples and a warning.
	warnings []string
	partial  bool // VictoriaMetrics's word for the same
}

// parseMatrix reads a response with the samples of many series. Package json reads every
// byte of it three times.
func parseMatrix(body []byte) (*matrix, error) {
	m, p := &matrix{}, &parser{b: body}
	p.object(func(key string) {
		switch key {
		case "status":
			m.status = p.text()
		case "error":
			m.failure = p.text()
		case "warnings":
			p.decode(&m.warnings)
		case "isPartial":
			p.decode(&m.partial)
		case "data":
			p.object(func(key string) {
				switch key {
				case "resultType":
					m.kind = p.text()
				case "result":
					p.array(func() { m.element(p) })
				default:
					p.skip()
				}
			})
		default:
			p.skip()
		}
	})
	if p.space(); p.err == nil && p.i < len(p.b) {
		p.fail("the end")
	}
	return m, p.err
}

// element reads an element of the result; of a scalar, which is no series, nothing.
func (m *matrix) element(p *parser) {
	if p.space(); p.next() != '{' {
		p.skip()
		return
	}
	var s Series
	if n := len(m.series); n > 0 {
		s.Samples = make([]Sample, 0, len(m.series[n-1].Samples))
	}
	p.object(func(key string) {
		switch key {
		case "metric":
			s.Labels = make(map[string]string, 8)
			p.object(func(name string) { s.Labels[name] = p.text() })
		case "values":
			p.array(func() { s.Samples = append(s.Samples, p.sample()) })
		case "histograms":
			m.histograms = true
			p.skip()
		default:
			p.skip()
		}
	})
	m.series = append(m.series, s)
}

// parser reads JSON. After an error all its methods do nothing.
type parser struct {
	b   []byte
	i   int
	err error
}

func (p *parser) fail(want string) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: byte %d of %d is not %s", errMalformed, p.i, len(p.b), want)
	}
	p.i = len(p.b)
}

func (p *parser) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\n' || p.b[p.i] == '\t' || p.b[p.i] == '\r') {
		p.i++
	}
}

// next is the next byte; 0 at the end.
func (p *parser) next() byte {
	if p.i < len(p.b) {
		return p.b[p.i]
	}
	return 0
}

// is reads a byte if it is the next after white space.
func (p *parser) is(c byte) bool {
	p.space()
	if p.next() != c {
		return false
	}
	p.i++
	return true
}

func (p *parser) want(c byte) {
	if !p.is(c) {
		p.fail(strconv.QuoteRune(rune(c)))
	}
}

// object calls for each member, whose value the function must read.
func (p *parser) object(member func(key string)) {
	if p.want('{'); p.err != nil || p.is('}') {
		return
	}
	for p.err == nil {
		key := p.text()
		p.want(':')
		if p.err == nil {
			member(key)
		}
		if !p.is(',') {
			p.want('}')
			return
		}
	}
}

// array calls for each element, which the function must read.
func (p *parser) array(element func()) {
	if p.want('['); p.err != nil || p.is(']') {
		return
	}
	for p.err == nil {
		element()
		if !p.is(',') {
			p.want(']')
			return
		}
	}
}

// quoted reads a string and returns what is between its quotes, escapes as they are.
func (p *parser) quoted() (text []byte, escaped bool) {
	p.want('"')
	start := p.i
	for ; p.i < len(p.b); p.i++ {
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return p.b[start : p.i-1], escaped
		case c == '\\':
			escaped = true
			p.i++
		case c < ' ':
			p.fail("a character of a string")
			return nil, false
		}
	}
	p.fail("the end of a string")
	return nil, false
}

// text reads a string.
func (p *parser) text() string {
	p.space()
	start := p.i
	raw, escaped := p.quoted()
	if !escaped || p.err != nil {
		return string(raw)
	}
	var text string
	if err := json.Unmarshal(p.b[start:p.i], &text); err != nil {
		p.i = start
		p.fail("a string")
	}
	return text
}

// decode reads a value that need not be fast.
func (p *parser) decode(into any) {
	p.space()
	start := p.i
	if p.skip(); p.err != nil {
		return
	}
	if err := json.Unmarshal(p.b[start:p.i], into); err != nil {
		p.i = start
		p.fail(fmt.Sprintf("a %T", into))
	}
}

// skip reads any value.
func (p *parser) skip() {
	p.space()
	for depth := 0; p.err == nil; {
		switch c := p.next(); c {
		case 0:
			p.fail("a value")
			return
		case '"':
			p.quoted()
		case '{', '[':
			depth++
			p.i++
			p.space()
			continue
		case '}', ']':
			if depth--; depth < 0 {
				p.fail("a value")
				return
			}
			p.i++
		case ',', ':':
			if depth == 0 {
				p.fail("a value")
				return
			}
			p.i++
			p.space()
			continue
		default: // a number or a literal
			start := p.i
			for p.i < len(p.b) && literal[p.b[p.i]] {
				p.i++
			}
			if p.i == start {
				p.fail("a value")
				return
			}
		}
		if depth == 0 {
			return
		}
		p.space()
	}
}

// literal are the bytes of numbers, true, false and null.
var literal = func() (of [256]bool) {
	for _, c := range "0123456789+-.eEtrufalsn" {
		of[c] = true
	}
	return of
}()

// sample reads [seconds, "value"].
func (p *parser) sample() (s Sample) {
	p.want('[')
	s.At = p.time()
	p.want(',')
	raw, _ := p.quoted()
	value, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(raw), len(raw)), 64) // nothing keeps it
	if err != nil {
		p.fail("the value of a sample")
	}
	s.Value = value
	p.want(']')
	return s
}

// time reads seconds, of which at most three decimals count.
func (p *parser) time() sample.Millis {
	p.space()
	start := p.i
	var whole, part int64
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		whole = whole*10 + int64(p.b[p.i]-'0')
		p.i++
	}
	digits := 0
	if p.i > start && p.next() == '.' {
		for p.i++; p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9'; p.i++ {
			part = part*10 + int64(p.b[p.i]-'0')
			digits++
		}
	}
	if p.i > start && p.i-start < 18 && digits < 4 && p.next() == ',' {
		for ; digits < 3; digits++ {
			part *= 10
		}
		return sample.Millis(whole*1000 + part)
	}
	// Rare: an exponent, a sign, more decimals.
	p.i = start
	for p.i < len(p.b) && literal[p.b[p.i]] {
		p.i++
	}
	seconds, err := strconv.ParseFloat(string(p.b[start:p.i]), 64)
	if err != nil {
		p.fail("the time of a sample")
	}
	return sample.Millis(math.Round(seconds * 1000))
}
