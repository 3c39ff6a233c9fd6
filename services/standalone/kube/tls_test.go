package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

const withCertificates = ha + `
tls: {enabled: true, certManager: {enabled: true, issuerRef: {name: weir-ca}}}
`

// The chart's Certificates ask for what the release needs. The test does what cert-manager
// does: it reads them and writes their Secrets, and then writes them anew.
func TestTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "tls")
	w.step("CRDs of cert-manager")
	w.crds(os.Getenv(certManagerVariable) + "/*.yaml")
	values := w.values(fmt.Sprintf(withCertificates, w.name))
	_, url := w.postgres()
	w.secret("weir-postgres", "url", url)
	w.secret("cloudflare", "token", firstToken)
	w.step("install: pods wait for their certificates")
	w.helm("install", "weir", chart, "--values", values, "--set", "doctor.prometheusURL=")
	collectors, clients := testkit.NewCA(t, "collectors"), testkit.NewCA(t, "clients")
	server := w.issue("weir-collector", "server auth", collectors, collectors)
	client := w.issue("weir-client", "client auth", clients, clients)
	w.readyPods("collector", 2)
	w.readyPods("exposer", 3)

	w.step("a collector takes clients of its authority, and no others")
	address := net.JoinHostPort(w.leader(2).Status.PodIP, "9820")
	name := "weir-collector." + w.name + ".svc"
	for about, c := range map[string]struct {
		shows *testkit.Cert
		taken bool
	}{
		"the clients' certificate":                {&client, true},
		"no certificate":                          {nil, false},
		"the collectors' own certificate":         {&server, false},
		"a client of the collectors' authority":   {new(collectors.Client(t, "weir-client")), false},
		"a server of the clients' authority":      {new(clients.Server(t, name)), false},
		"a client of an authority of nobody here": {new(testkit.NewCA(t, "strange").Client(t, "weir-client")), false},
	} {
		if _, err := stream(t, address, name, collectors, c.shows); (err == nil) != c.taken {
			t.Errorf("with %s: %v, taken must be %t", about, err, c.taken)
		}
	}

	w.step("the doctor passes")
	w.doctor()

	w.step("certificates of new authorities: nothing restarts, no request fails")
	before := w.instances()
	w.watched(w.service("weir-exposer", 9810)+"/metrics", func() {
		// Both sides trust both authorities before a certificate of the new one is shown, and
		// until none of the old one is.
		newCollectors, newClients := testkit.NewCA(t, "collectors"), testkit.NewCA(t, "clients")
		w.reread(func() {
			w.store("weir-collector-tls", server, collectors, newCollectors)
			w.store("weir-client-tls", client, clients, newClients)
		})
		w.reread(func() {
			server = w.issue("weir-collector", "server auth", newCollectors, collectors, newCollectors)
			client = w.issue("weir-client", "client auth", newClients, clients, newClients)
		})
		w.reread(func() {
			w.store("weir-collector-tls", server, newCollectors)
			w.store("weir-client-tls", client, newClients)
		})
		shown, err := stream(t, address, name, newCollectors, &client)
		if err != nil || !bytes.Equal(shown, server.TLS(t).Certificate[0]) {
			t.Errorf("the collector shows the certificate of before, or does not take that of now: %v", err)
		}
		for _, old := range []*testkit.CA{clients, collectors} {
			if _, err := stream(t, address, name, newCollectors, new(old.Client(t, "weir-client"))); err == nil {
				t.Error("the collector takes a client of an authority that it trusts no more")
			}
		}
		if after := w.instances(); !maps.Equal(before, after) {
			t.Errorf("pods and restarts were %v and are %v", before, after)
		}
		// New connections, with the files as they are now.
		w.kill(w.pods("collector")[0])
		w.leader(2)
		w.k("delete", "pod", w.pods("exposer")[0].Metadata.Name)
		w.readyPods("exposer", 3)
	})

	w.step("TLS is turned off and on: exposers answer meanwhile")
	plain := w.values(fmt.Sprintf(ha, w.name))
	w.watched(w.service("weir-exposer", 9810)+"/metrics", func() {
		for _, v := range []string{plain, values} {
			w.helm("upgrade", "weir", chart, "--values", v, "--set", "doctor.prometheusURL=", "--wait", "--timeout", "5m")
			w.leader(2)
			w.readyPods("exposer", 3)
		}
	})
	w.doctor()
}

// instances are the pods of the release with their restarts.
func (n *namespace) instances() map[string]int {
	n.t.Helper()
	all := map[string]int{}
	for _, p := range append(n.pods("collector"), n.pods("exposer")...) {
		all[p.Metadata.UID] = p.Status.ContainerStatuses[0].RestartCount
	}
	return all
}

// issue writes the Secret that a Certificate asks for, signed by an authority, with those that
// verify it.
func (n *namespace) issue(certificate, usage string, ca *testkit.CA, trusted ...*testkit.CA) testkit.Cert {
	n.t.Helper()
	var object struct {
		Spec struct {
			SecretName, CommonName string
			DNSNames               []string
			Usages                 []string
		}
	}
	if err := json.Unmarshal([]byte(n.k("get", "certificates.cert-manager.io", certificate, "-o", "json")), &object); err != nil {
		n.t.Fatal(err)
	}
	if !slices.Contains(object.Spec.Usages, usage) {
		n.t.Fatalf("the Certificate %s is for %q, want %q", certificate, object.Spec.Usages, usage)
	}
	var cert testkit.Cert
	if usage == "server auth" {
		cert = ca.Server(n.t, object.Spec.DNSNames...)
	} else {
		cert = ca.Client(n.t, object.Spec.CommonName)
	}
	n.store(object.Spec.SecretName, cert, trusted...)
	return cert
}

// reread changes the Secrets of both sides, and waits until every process uses what they have.
func (n *namespace) reread(change func()) {
	n.t.Helper()
	type file struct{ url, metric string }
	used := func(f file) (float64, error) {
		value, err := metric(f.url, f.metric)
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(value, 64)
	}
	before := map[file]float64{}
	for component, about := range map[string]struct{ port, secret string }{"collector": {"9821", "WEIR_GRPC_CERT_FILE"}, "exposer": {"9811", "WEIR_COLLECTOR_TLS"}} {
		for _, p := range n.pods(component) {
			f := file{"http://" + p.Status.PodIP + ":" + about.port + "/metrics", `weir_secret_changed_timestamp_seconds{secret="` + about.secret + `"}`}
			var err error
			if before[f], err = used(f); err != nil {
				n.t.Fatal(err)
			}
		}
	}
	change()
	// The kubelet writes two Secrets of one volume in one step or in two.
	testkit.Within(n.t, 4*time.Minute, func() error {
		time.Sleep(time.Second)
		for f, was := range before {
			if now, err := used(f); err != nil || now <= was {
				return fmt.Errorf("%s: %s is %v, and was %v before the Secrets changed: %w", f.url, f.metric, now, was, err)
			}
		}
		return nil
	})
}

// store writes a Secret as cert-manager does.
func (n *namespace) store(secret string, cert testkit.Cert, trusted ...*testkit.CA) {
	n.t.Helper()
	var authorities []byte
	for _, ca := range trusted {
		authorities = append(authorities, ca.PEM...)
	}
	encode := base64.StdEncoding.EncodeToString
	n.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\ntype: kubernetes.io/tls\ndata: {tls.crt: %s, tls.key: %s, ca.crt: %s}\n",
		secret, encode(cert.PEM), encode(cert.KeyPEM), encode(authorities)))
}

// stream connects to a collector as a client does and returns the certificate that it shows.
// The error is that of a collector that does not take what the client shows: with TLS 1.3 it
// comes after the handshake.
func stream(t *testing.T, address, name string, ca *testkit.CA, shows *testkit.Cert) (shown []byte, err error) {
	t.Helper()
	config := &tls.Config{ServerName: name, RootCAs: x509.NewCertPool(), NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
	config.RootCAs.AppendCertsFromPEM(ca.PEM)
	if shows != nil {
		// Whatever authorities the server names.
		pair := shows.TLS(t)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	// The preface of HTTP/2 and empty settings, which the server answers with its own.
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return nil, err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0].Raw, nil
}
