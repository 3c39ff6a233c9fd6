package cloudflare

import (
	"slices"
	"strings"
)

// The bounds of a response follow from the request. They are generous: a bound that a
// regular response reaches would cost a second, narrower request. None depends on the
// size of the response itself.
const (
	// leastReply is allowed to every response: a few labels or names of megabytes,
	// which callers truncate, must not make the rest of the response unusable.
	leastReply = 16 << 20
	// mostMemory is never exceeded. Fifty pages of 5,000 groups, the planner's largest
	// request, fit, and so does the whole process in a container of 512 MiB.
	mostMemory = 320 << 20
	// mostRefusal is the longest body with a status other than 200: errors or an HTML
	// page.
	mostRefusal = 1 << 20
	// mostErrors of one response: one for each zone and selection are fifty.
	mostErrors = 1000
	// mostSteps of a path or links of a chain of errors: seven and two have been seen.
	mostSteps = 64

	// entriesPerMap is the mean over the groups of a response; there are some 250
	// countries, and fewer of everything else.
	entriesPerMap = 300
	// bytesPerDimension: hosts have up to 253, paths and user agents sometimes more.
	bytesPerDimension = 512
	// bytesPerEntry of a list of the REST API: a zone has some two thousand.
	bytesPerEntry = 64 << 10
	// pagesPerPage: an API that ignores per_page uses its own page size.
	pagesPerPage = 20
	// fieldsPerNode are available at most: more than a hundred have been seen.
	fieldsPerNode = 1000
)

// within completes bounds with the given memory. Text needs at least its length.
func (c *Client) within(memory int64, lists ...listBound) bounds {
	memory = min(max(memory, leastReply), mostMemory)
	common := []listBound{{hashErrors, mostErrors, TooBig}, {hashPath, mostSteps, BadResponse}, {hashChain, mostSteps, BadResponse}}
	return bounds{bytes: min(memory, c.maxReply), memory: memory, lists: append(common, lists...)}
}

func (c *Client) queryBounds(q *Query) bounds {
	var memory int64
	lists := scopeBounds(q)
	for i := range q.Selections {
		s := &q.Selections[i]
		memory += min(int64(s.Limit), mostMemory) * s.groupMemory()
		lists = append(lists, listBound{nameHash([]byte(s.Alias)), s.Limit, BadResponse})
	}
	return c.within(memory*int64(max(1, len(q.Zones))), lists...)
}

// scopeBounds: a response has each scope at most once.
func scopeBounds(q *Query) []listBound {
	return []listBound{
		{nameHash([]byte("zones")), max(1, len(q.Zones)), BadResponse},
		{nameHash([]byte("accounts")), 1, BadResponse},
	}
}

func (c *Client) settingsBounds(q *Query, nodes []string) bounds {
	const node = costObject + costNames + 8*(costScalar+costName) + fieldsPerNode*(costItem+costScalar+mostName/4)
	return c.within(int64(max(1, len(q.Zones)))*int64(len(nodes))*node, scopeBounds(q)...)
}

// schemaBounds are those of a description of the schema: some two hundred nodes, or the fields
// of one node.
func (c *Client) schemaBounds() bounds { return c.within(leastReply) }

// restBounds are those of a page of the REST API, or of a single entry.
func (c *Client) restBounds(entries int) bounds {
	return c.within(int64(entries)*bytesPerEntry, listBound{hashResult, entries * pagesPerPage, BadResponse})
}

// groupMemory is what parse may allocate for one group of the selection.
func (s *Selection) groupMemory() int64 {
	const scalar = costName + costScalar + 64
	const object = costObject + costNames + costName
	memory := int64(2 * object) // itself and its dimensions
	var seen []string
	for _, path := range s.Fields {
		steps := strings.Split(path, ".")
		times := int64(1)
		for i := range steps[:len(steps)-1] {
			if i > 0 && steps[0] != confidence { // it can be an object or a list of objects
				times = entriesPerMap
			}
			if parent := strings.Join(steps[:i+1], "."); !slices.Contains(seen, parent) {
				seen = append(seen, parent)
				memory += times * object
			}
		}
		memory += times * scalar
	}
	return memory + int64(1+len(s.Dimensions))*(scalar+bytesPerDimension)
}
