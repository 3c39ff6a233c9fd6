package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// products are "all", or how many things there are of each.
type products struct {
	all    bool
	things map[string]int
}

// UnmarshalYAML reads either form.
func (p *products) UnmarshalYAML(read func(any) error) error {
	var word string
	if err := read(&word); err == nil {
		if p.all = word == "all"; !p.all && word != "none" {
			return fmt.Errorf("products %q must be all, none, or numbers by product", word)
		}
		return nil
	}
	return read(&p.things)
}

func (w *world) products(whose string, p products, ofZone bool) []traffic.Product {
	if p.all {
		return traffic.AllProducts(ofZone)
	}
	var out []traffic.Product
	for name, things := range p.things {
		if known := traffic.ProductNames(ofZone); !slices.Contains(known, name) {
			w.bad("%s: product %q must be one of %q", whose, name, known)
		}
		if things < 1 {
			w.bad("%s: product %s: %d must be 1 or more", whose, name, things)
		}
		out = append(out, traffic.Product{Name: name, Things: things})
	}
	slices.SortFunc(out, func(a, b traffic.Product) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// share is a number from 0 to 1, or a percentage.
type share float64

// UnmarshalYAML reads either form.
func (s *share) UnmarshalYAML(read func(any) error) error {
	var text string
	if err := read(&text); err != nil {
		return err
	}
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	if err != nil || v < -1 || v > 1 {
		return fmt.Errorf("share %q must be a number from 0 to 1 or a percentage", text)
	}
	*s = share(v)
	return nil
}
