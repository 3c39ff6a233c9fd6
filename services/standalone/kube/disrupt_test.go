package kube

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// kill ends the process of a pod with SIGKILL, and waits until the kubelet has started
// another.
func (n *namespace) kill(p pod) {
	n.t.Helper()
	before := p.Status.ContainerStatuses[0]
	id := strings.TrimPrefix(before.ContainerID, "containerd://")
	n.run("ctr", "-a", filepath.Join(n.lab, "containerd.sock"), "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id)
	testkit.Eventually(n.t, func() error {
		time.Sleep(200 * time.Millisecond)
		out, err := n.try("kubectl", "-n", n.name, "get", "pod", p.Metadata.Name, "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}")
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("%d true", before.RestartCount+1); out != want {
			return fmt.Errorf("restarts and readiness of %s are %s, want %s", p.Metadata.Name, out, want)
		}
		return nil
	})
}

// drain drains the node of a component's pods, count of them. The node is the only one, so
// it takes pods again once the first eviction has been seen; the rest of the drain then goes
// on as on a cluster that has room.
func (n *namespace) drain(component string, count int) {
	n.t.Helper()
	old := map[string]bool{}
	for _, p := range n.readyPods(component, count) {
		old[p.Metadata.UID] = true
	}
	done := make(chan error, 1)
	go func() {
		_, err := n.try("kubectl", "drain", "lab", "--pod-selector=world="+n.name+",app.kubernetes.io/component="+component, "--timeout=5m")
		done <- err
	}()
	testkit.Eventually(n.t, func() error {
		time.Sleep(100 * time.Millisecond)
		gone := len(old)
		for _, p := range n.pods(component) {
			if old[p.Metadata.UID] && p.Metadata.DeletionTimestamp == nil {
				gone--
			}
		}
		if gone == 0 {
			return fmt.Errorf("no pod of %s is evicted", component)
		}
		if gone > 1 {
			n.t.Errorf("%d pods of %s are evicted at once", gone, component)
		}
		return nil
	})
	n.run("kubectl", "uncordon", "lab")
	if err := <-done; err != nil {
		n.t.Error(err)
	}
	for _, p := range n.readyPods(component, count) {
		if old[p.Metadata.UID] {
			n.t.Errorf("%s was not evicted", p.Metadata.Name)
		}
	}
}

// watched asks for a page ten times a second while something is done, and reports each time
// that it is not there.
func (n *namespace) watched(url string, do func()) {
	n.t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	asked, failed := 0, []string{}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			asked++
			if status, _, body, err := fetch(url); err != nil || status != 200 {
				failed = append(failed, fmt.Sprintf("%s: %d %v %s", time.Now().UTC().Format(time.TimeOnly), status, err, tail(body, 1)))
			}
		}
	})
	do()
	close(stop)
	wg.Wait()
	if len(failed) > 0 {
		n.t.Errorf("%s was not there %d of %d times: %s", url, len(failed), asked, strings.Join(failed[:min(5, len(failed))], "; "))
	} else {
		n.t.Logf("%s was there %d times", url, asked)
	}
}
