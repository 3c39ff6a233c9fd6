package cfsimtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// Transport calls sim in this process, without any network: for tests in a
// synctest bubble, where real connections would stop the fake clock. Injected
// faults look to the client as they do on the wire: connections that break
// give errors, slow answers take (fake) time and end with the request's
// context. The host of the URL does not matter.
func Transport(sim *cfsim.Server) http.RoundTripper { return transport{sim} }

type transport struct{ sim *cfsim.Server }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := &recorder{ResponseRecorder: httptest.NewRecorder()}
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = r.URL.RequestURI()
	broken := serve(t.sim, rec, in)
	if r.Body != nil {
		_ = r.Body.Close() // a RoundTripper must
	}
	if err := r.Context().Err(); err != nil {
		return nil, context.Cause(r.Context())
	}
	if broken && !rec.begun {
		return nil, fmt.Errorf("simulated connection: %w", io.EOF)
	}
	resp := rec.Result()
	resp.Request = r
	if broken {
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(rec.Body.Bytes()), brokenReader{}))
	}
	return resp, nil
}

// serve reports whether the handler broke the connection.
func serve(h http.Handler, w http.ResponseWriter, r *http.Request) (broken bool) {
	defer func() {
		switch err := recover(); {
		case err == nil:
		case errors.Is(asError(err), http.ErrAbortHandler):
			broken = true
		default:
			panic(err) // a bug of the simulator
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

func asError(v any) error {
	err, _ := v.(error)
	return err
}

// recorder notes whether the headers were sent.
type recorder struct {
	*httptest.ResponseRecorder
	begun bool
}

func (r *recorder) WriteHeader(status int) {
	r.begun = true
	r.ResponseRecorder.WriteHeader(status)
}

// brokenReader is the end of a body that was cut.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
