package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/smallfile"
)

// files are the names of a set of files; "" for one that is not given.
type files struct{ cert, key, ca string }

func (f files) none() bool { return f == files{} }

// material is what stands in a set of files, in PEM.
type material struct{ cert, key, ca string }

func (f files) read() (m material, err error) {
	for _, one := range []struct {
		name string
		into *string
	}{{f.cert, &m.cert}, {f.key, &m.key}, {f.ca, &m.ca}} {
		if one.name == "" {
			continue
		}
		content, err := smallfile.Read(one.name, smallfile.PEM)
		if err != nil {
			return material{}, fmt.Errorf("read TLS files: %w", err)
		}
		*one.into = string(content)
	}
	return m, nil
}

// pair is the certificate with its key, and when the first certificate of the
// chain expires.
func (m material) pair(f files) (pair tls.Certificate, expires time.Time, err error) {
	chain, err := Certificates(m.cert)
	if err != nil {
		return pair, expires, fmt.Errorf("certificate %s: %w", f.cert, err)
	}
	if pair, err = tls.X509KeyPair([]byte(m.cert), []byte(m.key)); err != nil {
		return pair, expires, fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
	}
	for _, c := range chain {
		if expires.IsZero() || c.NotAfter.Before(expires) {
			expires = c.NotAfter
		}
	}
	return pair, expires, nil
}

// pool is the authorities.
func (m material) pool(f files) (*x509.CertPool, error) {
	all, err := Certificates(m.ca)
	if err != nil {
		return nil, fmt.Errorf("CA certificates %s: %w", f.ca, err)
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool, nil
}

// Certificates reads every certificate of a PEM text, at least one. The standard library takes
// those that it can read and drops the rest without a word; of a file that is
// being written, that would be half of the authorities.
func Certificates(text string) ([]*x509.Certificate, error) {
	const kind = "CERTIFICATE"
	var all []*x509.Certificate
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != kind {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if begun := strings.Count(text, "-----BEGIN "+kind+"-----"); begun != len(all) {
		return nil, fmt.Errorf("only %d of %d certificates in the file are complete", len(all), begun)
	}
	if len(all) == 0 {
		return nil, errors.New("the file has no certificate in PEM format")
	}
	return all, nil
}
