package catalogue

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// named is what a dataset is called.
type named struct {
	name, id string
	sizes    []time.Duration
}

// anySize is what the size in an id looks like, right or not.
var anySize = regexp.MustCompile(`^[0-9]+[smhd]$`)

// noDataset is the problem with a name or id that none of the datasets has. Of a known name
// with another bucket size it says which sizes there are.
func noDataset(name string, all []named) error {
	ids := make([]string, len(all))
	for i, d := range all {
		if rest, found := strings.CutPrefix(name, d.name+"_"); found && anySize.MatchString(rest) {
			return fmt.Errorf("dataset %q is not what the settings select, which is %s; %s can be collected at %s", name, d.id, d.name, sizeNames(d.sizes))
		}
		ids[i] = d.id
	}
	slices.Sort(ids)
	return fmt.Errorf("dataset %.80q is not in the catalogue; known are %s", name, strings.Join(ids, ", "))
}
