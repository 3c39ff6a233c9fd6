package traffic

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// indexNodes maps datasets to their sources.
func indexNodes(all []*Source) map[string]*Source {
	out := map[string]*Source{}
	for _, s := range append([]*Source{
		{Name: HTTP, Zone: true, Union: true, nodes: []string{
			"httpRequests1mGroups", "httpRequests1hGroups", "httpRequests1dGroups", "httpRequestsAdaptiveGroups", "httpRequestsOverviewAdaptiveGroups",
		}},
		{Name: Firewall, Zone: true, Union: true, nodes: []string{"firewallEventsAdaptiveGroups", "firewallEventsAdaptive"}},
		{Name: Workers, Account: true, nodes: []string{"workersInvocationsAdaptive"}},
	}, all...) {
		for _, n := range s.nodes {
			out[n] = s
		}
	}
	return out
}

// mustParseSources panics on a malformed table: it is compiled in, so no input can
// cause it.
func mustParseSources(text string) []*Source {
	var all []*Source
	for i, line := range strings.Split(text, "\n") {
		head, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if head == "" || head[0] == '#' {
			continue
		}
		var err error
		if head == "source" {
			var s *Source
			s, err = parseSource(strings.Fields(rest))
			all = append(all, s)
		} else {
			err = all[len(all)-1].parse(all, head, rest)
		}
		if err != nil {
			panic(fmt.Sprintf("traffic: sources.txt: line %d: %v", i+1, err))
		}
	}
	return all
}

func parseSource(words []string) (*Source, error) {
	if len(words) < 3 {
		return nil, fmt.Errorf("source %v must have a name, a product and a place", words)
	}
	s := &Source{Name: words[0], Product: words[1], each: option{weight: 1}}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "zone":
			s.Zone = true
		case "account":
			s.Account = true
		case "union":
			s.Union = true
		case "flat":
			s.flat = true
		case "things":
			s.Things, err = strconv.Atoi(value)
		case "rate":
			s.rate, err = strconv.ParseFloat(value, 64)
		default:
			err = fmt.Errorf("word %q must be a place, union, flat, things= or rate=", w)
		}
		if err != nil {
			return nil, err
		}
	}
	if s.Things <= 0 || s.rate <= 0 || !s.Zone && !s.Account {
		return nil, fmt.Errorf("source %s must have a place, and things and a rate above 0", s.Name)
	}
	return s, nil
}

// parse reads one line of the source's block. all are the sources so far.
func (s *Source) parse(all []*Source, head, rest string) error {
	switch head {
	case "like":
		i := slices.IndexFunc(all, func(o *Source) bool { return o.Name == rest && o != s })
		if i < 0 {
			return fmt.Errorf("source %s is like %q, which is not above it", s.Name, rest)
		}
		s.each, s.axes = all[i].each, all[i].axes
	case "nodes":
		s.nodes = strings.Fields(rest)
	case "each":
		o, err := parseOption(rest)
		s.each = o
		return err
	case "axis":
		var axis []option
		for _, text := range strings.Split(rest, "|") {
			o, err := parseOption(text)
			if err != nil {
				return err
			}
			axis = append(axis, o)
		}
		s.axes = append(s.axes, axis)
	default:
		return fmt.Errorf("line must begin with source, nodes, each, axis or like, not %q", head)
	}
	return nil
}

func parseOption(text string) (option, error) {
	o := option{weight: 1, attrs: map[string]any{}, numbers: map[string]bool{}, means: map[string]float64{}, exact: map[string]float64{}, gauges: map[string]float64{}}
	for i, w := range strings.Fields(text) {
		at := strings.IndexAny(w, "=:~@^")
		if at < 0 {
			number, incident := strings.CutSuffix(w, "!")
			weight, err := strconv.ParseFloat(number, 64)
			if err != nil || i > 0 {
				return o, fmt.Errorf("word %q must be name=text, name:number, name~mean, name@value or name^level", w)
			}
			o.weight, o.incident = weight, incident
			continue
		}
		name, value := w[:at], w[at+1:]
		if slices.Contains([]byte("=:"), w[at]) {
			o.attrs[name], o.numbers[name] = strings.ReplaceAll(value, "+", " "), w[at] == ':'
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return o, fmt.Errorf("measure %s: %w", name, err)
		}
		switch w[at] {
		case '~':
			o.means[name] = number
		case '@':
			o.exact[name] = number
		case '^':
			o.gauges[name] = number
		}
	}
	return o, nil
}
