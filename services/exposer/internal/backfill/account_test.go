package backfill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
)

// accounts are scopes: an account, zones, and a second account of the first's name.
type accounts struct {
	Lister
	scopes []*bucketv1.ScopeInfo
}

func (a *accounts) ListScopes(context.Context, *bucketv1.ListScopesRequest, ...grpc.CallOption) (*bucketv1.ListScopesResponse, error) {
	return &bucketv1.ListScopesResponse{Scopes: a.scopes}, nil
}

func one(kind bucketv1.ScopeKind, id, zone, accountID, account, label string) *bucketv1.ScopeInfo {
	return &bucketv1.ScopeInfo{
		Scope: &bucketv1.Scope{Kind: kind, Id: id}, Name: zone, ZoneLabel: zone, AccountId: accountID, AccountName: account, AccountLabel: label,
	}
}

func TestAnAccountIsItselfAndItsZones(t *testing.T) {
	const zone, account = bucketv1.ScopeKind_SCOPE_KIND_ZONE, bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT
	from := &accounts{scopes: []*bucketv1.ScopeInfo{
		one(account, "acme", "", "acme", "Acme", "Acme"), one(zone, "z1", "shop.example", "acme", "Acme", "Acme"),
		one(zone, "z2", "blog.example", "acme", "Acme", "Acme"), one(zone, "z3", "shop.example", "labs", "Labs", "Labs"),
		one(account, "twin", "", "twin", "Labs", "Labs#12345678"),
	}}
	for _, test := range []struct {
		zone, account string
		want          string // ids, or words of the error
	}{
		{"", "Acme", "acme z1 z2"},
		{"", "acme", "acme z1 z2"},
		{"", "Labs#12345678", "twin"},
		{"", "labs", "z3"},
		{"", "Labs", "several accounts have this name"},
		{"", "Nobody", "the name or the id of an account"},
		{"shop.example", "", "several zones have this name"},
		{"shop.example", "Acme", "z1"},
		{"shop.example", "labs", "z3"},
		{"shop.example", "twin", "the name or the id of a zone"},
	} {
		scopes, err := resolve(t.Context(), from, &Request{Zone: test.zone, Account: test.account})
		var got []string
		for _, s := range scopes {
			got = append(got, s.GetId())
		}
		slices.Sort(got)
		var refused *ParamError
		if said := strings.Join(got, " "); err == nil && said != test.want || err != nil && (!errors.As(err, &refused) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("zone %q of account %q: %q, %v; want %q", test.zone, test.account, said, err, test.want)
		}
	}
	for n := range mostNamed {
		from.scopes = append(from.scopes, one(zone, fmt.Sprint(n), fmt.Sprint(n, ".example"), "acme", "Acme", "Acme"))
	}
	if _, err := resolve(t.Context(), from, &Request{Account: "Acme"}); err == nil || !strings.Contains(err.Error(), "at most 1000") {
		t.Errorf("an account of more zones than a filter takes: %v", err)
	}
}

func TestAccountIsAParameter(t *testing.T) {
	s, st := resized(t)
	for account, shown := range map[string]bool{"Example": true, "Nobody": false} {
		var out bytes.Buffer
		err := Write(t.Context(), &out, s, st, request(t, st, "account="+account), clockAt, nil)
		if (err == nil) != shown || strings.Contains(out.String(), `account="Example"`) != shown {
			t.Errorf("account %s: %v\n%s", account, err, out.String())
		}
	}
}
