package cloudflare

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func free(context.Context) error { return nil }

// The schema of a node is read as its types are nested, and what cannot be asked is left out.
func TestSchemaNode(t *testing.T) {
	var asked []string
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		asked = append(asked, string(text))
		w.Header().Set("Content-Type", "application/json")
		body := `{"data":{"__type":{"fields":[
			{"name":"zoneTag","type":{"kind":"NON_NULL","ofType":{"kind":"SCALAR","name":"string"}},"args":[]},
			{"name":"settings","type":{"kind":"OBJECT","name":"ZoneSettings"},"args":[]},
			{"name":"eventsGroups","description":"Events","type":{"kind":"NON_NULL","name":null,"ofType":{"kind":"LIST","ofType":{"kind":"NON_NULL","ofType":{"kind":"OBJECT","name":"ZoneEvents"}}}},
			 "args":[{"name":"filter","type":{"kind":"NON_NULL","ofType":{"kind":"INPUT_OBJECT","name":"EventsFilter"}}}]}]}},"errors":null}`
		if len(asked) > 1 {
			body = `{"data":{"__type":{"fields":[
				{"name":"count","description":null,"type":{"kind":"NON_NULL","ofType":{"kind":"SCALAR","name":"uint64"}}},
				{"name":"sum","type":{"kind":"OBJECT","name":"S","fields":[
					{"name":"bytes","description":"` + secret + `","type":{"kind":"NON_NULL","ofType":{"kind":"SCALAR","name":"float64"}}},
					{"name":"not a name","type":{"kind":"SCALAR","name":"uint64"}},
					{"name":"ids","type":{"kind":"NON_NULL","ofType":{"kind":"LIST","ofType":{"kind":"NON_NULL","ofType":{"kind":"SCALAR","name":"uint32"}}}}},
					{"name":"map","type":{"kind":"NON_NULL","ofType":{"kind":"LIST","ofType":{"kind":"NON_NULL","ofType":{"kind":"OBJECT","name":"M","fields":[
						{"name":"country","type":{"kind":"SCALAR","name":"string"}}]}}}}}]}}]},
				"filter":{"inputFields":[{"name":"datetime_geq"},{"name":"AND"}]}}}`
		}
		_, _ = io.WriteString(w, body)
	}, nil)
	permits := 0
	n, err := c.SchemaNode(t.Context(), "zone", "eventsGroups", func(context.Context) error { permits++; return nil })
	if err != nil || permits != NodeCalls || len(asked) != NodeCalls {
		t.Fatalf("with %d permits and %d requests: %v", permits, len(asked), err)
	}
	if n.Type != "ZoneEvents" || n.Description != "Events" || !slices.Equal(n.Filters, []string{"datetime_geq", "AND"}) {
		t.Errorf("the node is %+v", n)
	}
	sum, count := n.Container("sum"), n.Container("count")
	if count == nil || !count.Whole() || count.Fields != nil || sum == nil || len(sum.Fields) != 3 || n.Container("avg") != nil {
		t.Fatalf("count is %+v, sum is %+v", count, sum)
	}
	bytes, ids, m := &sum.Fields[0], &sum.Fields[1], &sum.Fields[2]
	if !bytes.Number() || bytes.Whole() || ids.Number() || !ids.List || ids.Type != "uint32" || m.Number() || len(m.Fields) != 1 || m.Fields[0].Type != "string" {
		t.Errorf("the fields are %+v", sum.Fields)
	}
	if strings.Contains(bytes.Description, secret) {
		t.Error("the token is in a description")
	}
}

func TestSchemaNodeIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		body  string
		class Class
		want  string
	}{
		"no introspection": {`{"data":null,"errors":[{"message":"unknown field \"__type\"","path":null}]}`, Ours, `the API does not answer introspection queries: unknown field "__type"`},
		"not described":    {`{"data":{"__type":null},"errors":null}`, BadResponse, `the API does not describe its schema: the type "zone" is missing`},
		"token":            {`{"data":null,"errors":[{"message":"Unauthorized","path":null}]}`, Auth, "Unauthorized"},
		"budget":           {`{"data":null,"errors":[{"message":"Rate limiter budget depleted. Please try again after 5 minutes.","path":null,"extensions":{"code":"budget"}}]}`, Budget, "budget depleted"},
		"no data":          {`{"data":null,"errors":null}`, BadResponse, "neither data nor errors"},
		"type": {
			`{"data":{"__type":{"fields":[{"name":"a","type":{"kind":"LIST","ofType":{"kind":"OBJECT","name":"x){y"}},"args":[{"name":"filter","type":{"name":"F"}}]}]}}}`,
			BadResponse, `the type of a is "x){y"`,
		},
	} {
		c, _ := client(t, says(http.StatusOK, "application/json", test.body), nil)
		_, err := c.SchemaNode(t.Context(), "zone", "a", free)
		if e := failure(t, err); e.Class != test.class || !strings.Contains(e.Message, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, _ := client(t, says(http.StatusOK, "application/json", `{"data":{"__type":{"fields":[{"name":"b","type":{"kind":"LIST","ofType":{"kind":"OBJECT","name":"B"}},"args":[{"name":"filter","type":{"name":"F"}}]}]}}}`), nil)
	_, err := c.SchemaNode(t.Context(), "zone", "a", free)
	if unknown, ok := errors.AsType[*NoNodeError](err); !ok || !slices.Equal(unknown.Known, []string{"b"}) {
		t.Errorf("an unknown node: %v", err)
	}
	if _, err := c.SchemaNode(t.Context(), "zone", "a", func(context.Context) error { return io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("without a permit: %v", err)
	}
}
