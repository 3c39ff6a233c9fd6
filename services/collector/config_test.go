package collector

import (
	"strings"
	"testing"
)

func TestCheckProxies(t *testing.T) {
	for text, ok := range map[string]bool{
		"":                                     true,
		"proxy.example:3128":                   true,
		"http://proxy.example":                 true,
		"https://user:hunter2@proxy.example:1": true,
		"socks5://127.0.0.1:1080":              true,
		"user:hunter2@proxy.example:3128":      true,
		"http://user:hunter2@127.0.0.1:port":   false,
		"http://user:hunter2%zz@127.0.0.1":     false,
		"ftp://user:hunter2@proxy.example":     false,
		"http://":                              false,
	} {
		err := checkProxies(func(name string) string {
			if name == "https_proxy" {
				return text
			}
			return ""
		})
		if (err == nil) != ok || err != nil && (!strings.Contains(err.Error(), "https_proxy") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%q: error is %v, want one: %t", text, err, !ok)
		}
	}
}
