package yamlspec

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type menu struct {
	Place
	Title  string          `yaml:"title" required:"true" doc:"Title."`
	Opens  *time.Duration  `yaml:"opens"`
	Seats  *int            `yaml:"seats" is:"1..40"`
	Dishes []*dish         `yaml:"dishes" each:"dish"`
	Wines  map[string]wine `yaml:"wines" keys:"word" each:"wine"`
	Notes  map[string]any  `yaml:"notes"`
	hidden string
}

type dish struct {
	Place
	common
	Name  string   `yaml:"name" required:"id" is:"word"`
	Kind  string   `yaml:"kind" is:"hot|cold|sweet"`
	Tags  []string `yaml:"tags" is:"word"`
	Vegan *bool    `yaml:"vegan"`
}

type common struct {
	Price int `yaml:"price"`
}

type wine struct {
	Place
	common
	After map[time.Duration]string `yaml:"after"`
}

var food = Format{"word": {regexp.MustCompile(`^[a-z]+$`), "be a word"}}

func pointer[T any](v T) *T { return &v }

func TestDecode(t *testing.T) {
	var got menu
	problems := food.Decode("menu.yaml", []byte(`# today
title: 1001
opens: 90
dishes:
  - {name: soup, price: 5, kind: hot, tags: []}
  - name: ice
    vegan: false
wines:
  red:
    price: 20
    after: {1d: open, 30m: closed}
notes: {a: x, b: 3, c: [y, 4]}
`), &got)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	at := func(line int) Place { return Place{"menu.yaml", line} }
	want := menu{
		Place: at(2), Title: "1001", Opens: pointer(90 * time.Second),
		Dishes: []*dish{
			{Place: at(5), common: common{Price: 5}, Name: "soup", Kind: "hot", Tags: []string{}},
			{Place: at(6), Name: "ice", Vegan: pointer(false)},
		},
		Wines: map[string]wine{"red": {Place: at(9), common: common{Price: 20}, After: map[time.Duration]string{24 * time.Hour: "open", 30 * time.Minute: "closed"}}},
		Notes: map[string]any{"a": "x", "b": int64(3), "c": []any{"y", int64(4)}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(menu{}, dish{}, wine{})); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

// Every mistake is told, with its line, what it is about, the value, and what
// would be right.
func TestDecodeTellsEveryMistake(t *testing.T) {
	for text, want := range map[string]string{
		"title: x\nhidden: y\ncommon: z": `m:2: file has unknown key "hidden"; known are dishes, notes, opens, seats, title, wines
m:3: file has unknown key "common"; known are dishes, notes, opens, seats, title, wines`,
		"title: [x]\nopens: soon\nseats: 41\ndishes: {}\nwines: []": `m:1: title is a list; it must be text
m:2: opens is "soon"; it must be a duration such as 300, 5m, 1h or 1d
m:3: seats is 41; it must be 1 to 40
m:4: dishes is an object; it must be a list
m:5: wines is a list; it must be an object`,
		"title: x\ndishes:\n- {name: soup, price: much, vegan: 1, tags: [ok, NO]}\n- name: Fish\n- kind: raw\n- null": `m:3: dish soup: price is "much"; it must be a whole number
m:3: dish soup: vegan is "1"; it must be true or false
m:3: dish soup: tags element is "NO"; it must be a word
m:4: dish Fish: name is "Fish"; it must be a word
m:5: dish has no name
m:5: dish: kind is "raw"; it must be one of hot, cold, sweet
m:6: dish is empty; it must be an object`,
		"title: x\nwines: {Red: {prise: 1}, white: {price: }, rose: {after: {later: x, 1h: [y]}}}": `m:2: key of wines is "Red"; it must be a word
m:2: wine white: price is empty; it must be a whole number
m:2: key of wine rose: after is "later"; it must be a duration such as 5m
m:2: wine rose: after 1h is a list; it must be text`,
		"title: x\nnotes: {a: {b: c}, d: [[e]], f: true}": `m:2: notes a is an object; it must be text or a whole number
m:2: notes d element is a list; it must be text or a whole number
m:2: notes f is "true"; it must be text or a whole number`,
		"seats: 2":            `m:1: file has no title`,
		"title: x\n---\na: 1": `m:3: second document; a file holds one`,
		"title: &a x":         `m:1: title is an anchor, alias, tag or merge, which are not supported here; it must be text`,
		"just words":          `m:1: file is "just words"; it must be an object`,
		"":                    `m:1: file is empty; it must be an object`,
		"# title: x\n---\n":   `m:1: file is empty; it must be an object`,
	} {
		var got []string
		for _, err := range food.Decode("m", []byte(text), new(menu)) {
			got = append(got, err.Error())
		}
		if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	// The parser itself refuses a key that is there twice, and says where.
	problems := food.Decode("m", []byte("title: x\n\ntitle: y"), new(menu))
	if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), `m:3: not YAML: mapping key "title" already defined`) {
		t.Errorf("a key twice: %v", problems)
	}
}

func TestOverlay(t *testing.T) {
	base := menu{Title: "old", Seats: pointer(4), Dishes: []*dish{{Name: "soup"}}, Notes: map[string]any{"a": "b"}}
	Overlay(&base, menu{Seats: pointer(0), Dishes: []*dish{}, Place: Place{"x", 1}, hidden: "no key"})
	want := menu{Title: "old", Seats: pointer(0), Dishes: []*dish{}, Notes: map[string]any{"a": "b"}}
	if diff := cmp.Diff(want, base, cmp.AllowUnexported(menu{}, dish{})); diff != "" {
		t.Errorf("overlaid (-want +got):\n%s", diff)
	}
	d := dish{common: common{Price: 3}, Name: "soup"}
	Overlay(&d, dish{common: common{Price: 4}})
	if d.Price != 4 || d.Name != "soup" {
		t.Errorf("overlaid %+v, want the price of an embedded struct and nothing else", d)
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"300": 5 * time.Minute, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "1d": 24 * time.Hour, "0": 0} {
		if got, ok := ParseDuration(text); !ok || got != want {
			t.Errorf("%q is %s, %t; want %s", text, got, ok, want)
		}
		if !regexp.MustCompile(durationPattern).MatchString(text) {
			t.Errorf("the schema refuses %q", text)
		}
	}
	for _, text := range []string{"", "d", "-1", "-5m", "1.5d", "soon", "99999999d"} {
		if got, ok := ParseDuration(text); ok {
			t.Errorf("%q is %s; want a refusal", text, got)
		}
	}
}

// Whatever a file holds, decoding ends with values or with mistakes that each have
// their place.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("title: x\ndishes:\n- {name: soup, tags: [a]}\nwines: {red: {after: {1d: open}}}"))
	f.Add([]byte("title: &a [*a]\nnotes: {? [a] : b, <<: {c: d}}"))
	f.Add([]byte("title: |\n  x\n---\n- !t y"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, err := range food.Decode("m", text, new(menu)) {
			if at, what, ok := strings.Cut(err.Error(), ": "); !ok || !regexp.MustCompile(`^m:[1-9][0-9]*$`).MatchString(at) || what == "" {
				t.Fatalf("mistake without its place: %q", err)
			}
		}
	})
}
