package rawcodec

import (
	"bytes"
	"testing"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	gproto "google.golang.org/protobuf/proto"
)

func TestFramesPassAsTheyAre(t *testing.T) {
	c := codec{encoding.GetCodecV2(proto.Name)}
	frame := Frame("not even a message")
	out, err := c.Marshal(frame)
	if err != nil {
		t.Fatal(err)
	}
	if got := out[0].ReadOnlyData(); len(out) != 1 || &got[0] != &frame[0] {
		t.Error("the frame was copied")
	}
	// gRPC releases what it has sent; the frame must outlive that.
	out.Free()
	if !bytes.Equal(frame, Frame("not even a message")) {
		t.Error("releasing changed the frame")
	}
}

func TestMessagesAreProtobuf(t *testing.T) {
	c := codec{encoding.GetCodecV2(proto.Name)}
	if c.Name() != "proto" {
		t.Errorf("the codec's name is %q; clients would not know it", c.Name())
	}
	want := &bucketv1.ResumePoint{StoreId: "s", Revision: 7}
	out, err := c.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := &bucketv1.ResumePoint{}
	if err := c.Unmarshal(out, got); err != nil || !gproto.Equal(got, want) {
		t.Errorf("%v became %v, %v", want, got, err)
	}
	if _, err := c.Marshal([]byte("neither frame nor message")); err == nil {
		t.Error("bytes of unknown meaning were sent")
	}
}
