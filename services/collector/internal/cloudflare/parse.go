package cloudflare

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// unescape reads the valid escape at i and returns where it ends.
func unescape(b []byte, i int) (rune, int) {
	switch c := b[i+1]; c {
	case 'b':
		return '\b', i + 2
	case 'f':
		return '\f', i + 2
	case 'n':
		return '\n', i + 2
	case 'r':
		return '\r', i + 2
	case 't':
		return '\t', i + 2
	case 'u':
		r := hex4(b[i+2:])
		i += 6
		if r&^0x3ff == 0xd800 && i+6 <= len(b) && b[i] == '\\' && b[i+1] == 'u' {
			if low := hex4(b[i+2:]); low&^0x3ff == 0xdc00 {
				return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00), i + 6
			}
		}
		if r&^0x7ff == 0xd800 {
			r = utf8.RuneError // half of a pair
		}
		return r, i
	default:
		return rune(c), i + 2
	}
}

func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		d := rune(c&0xf) + 9*rune(c>>6) // letters are above 0x40
		r = r<<4 | d
	}
	return r
}

// builder makes values of a body that [scan] has passed.
type builder struct {
	b     []byte
	at    int
	stack []any             // items of the open lists
	names map[string]string // every group has the same ones
}

// parse returns the value in a part of a body: maps, slices, strings, booleans, nil,
// and numbers as they are written.
func parse(body []byte, part span) any {
	p := &builder{b: body[:part.to], at: part.from, names: map[string]string{}}
	return p.value()
}

func (p *builder) space() {
	for p.at < len(p.b) && p.b[p.at] <= ' ' {
		p.at++
	}
}

func (p *builder) value() any {
	p.space()
	if p.at >= len(p.b) {
		return nil // an empty part
	}
	switch p.b[p.at] {
	case '{':
		return p.object()
	case '[':
		return p.list()
	case '"':
		return p.text(p.quoted())
	case 't':
		p.at += len("true")
		return true
	case 'f':
		p.at += len("false")
		return false
	case 'n':
		p.at += len("null")
		return nil
	}
	from := p.at
	for p.at < len(p.b) && p.b[p.at] > ' ' && p.b[p.at] != ',' && p.b[p.at] != ']' && p.b[p.at] != '}' {
		p.at++
	}
	return json.Number(p.b[from:p.at])
}

func (p *builder) object() map[string]any {
	out := map[string]any{}
	for p.at++; ; p.at++ { // the brace, or a comma
		p.space()
		if p.b[p.at] == '}' {
			break
		}
		quoted := p.quoted()
		name, known := p.names[string(quoted)]
		if !known {
			name = p.text(quoted)
			if len(p.names) < mostNames {
				p.names[string(quoted)] = name
			}
		}
		p.space()
		p.at++ // the colon
		out[name] = p.value()
		p.space()
		if p.b[p.at] == '}' {
			break
		}
	}
	p.at++
	return out
}

func (p *builder) list() []any {
	first := len(p.stack)
	for p.at++; ; p.at++ { // the bracket, or a comma
		p.space()
		if p.b[p.at] == ']' {
			break
		}
		v := p.value()
		p.stack = append(p.stack, v)
		p.space()
		if p.b[p.at] == ']' {
			break
		}
	}
	p.at++
	out := make([]any, len(p.stack)-first)
	copy(out, p.stack[first:])
	clear(p.stack[first:])
	p.stack = p.stack[:first]
	return out
}

// quoted is the string at hand with its quotes.
func (p *builder) quoted() []byte {
	from := p.at
	for p.at++; p.b[p.at] != '"'; p.at++ {
		if p.b[p.at] == '\\' {
			p.at++
		}
	}
	p.at++
	return p.b[from:p.at]
}

// text is the string that was written so.
func (p *builder) text(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); {
		var r rune
		if inner[i] == '\\' {
			r, i = unescape(inner, i)
		} else {
			var n int
			r, n = utf8.DecodeRune(inner[i:])
			i += n
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}
