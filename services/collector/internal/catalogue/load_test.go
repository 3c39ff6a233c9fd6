package catalogue

import "testing"

func TestLoadSmoke(t *testing.T) {
	c, err := Load(nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Datasets {
		t.Logf("%+v", d)
	}
}
