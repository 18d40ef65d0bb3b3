package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
)

// Messages as they are: Envoy's types would be many times what is asked of them here.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (raw) Unmarshal(bytes []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), bytes...)
	return nil
}

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// Asks for secrets by their names on a stream, as Envoy does, and tells the names of those that come.
func sds(ctx context.Context, address string, names []string) error {
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer channel.Close()
	method := "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
	both := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := channel.NewStream(ctx, both, method, grpc.ForceCodec(raw{}))
	if err != nil {
		return err
	}
	request := discovery(names)
	if err := stream.SendMsg(&request); err != nil {
		return err
	}
	var answer []byte
	if err := stream.RecvMsg(&answer); err != nil {
		return err
	}
	var secrets []string
	err = fields(answer, func(number protowire.Number, resource []byte) error {
		if number != 2 {
			return nil
		}
		return fields(resource, func(number protowire.Number, secret []byte) error {
			if number != 2 {
				return nil
			}
			return fields(secret, func(number protowire.Number, name []byte) error {
				if number == 1 {
					secrets = append(secrets, string(name))
				}
				return nil
			})
		})
	})
	if err != nil {
		return err
	}
	return tell(map[string]any{"secrets": secrets})
}

// A DiscoveryRequest: the names of the resources, and of their type.
func discovery(names []string) []byte {
	var request []byte
	for _, name := range names {
		request = protowire.AppendTag(request, 3, protowire.BytesType)
		request = protowire.AppendString(request, name)
	}
	request = protowire.AppendTag(request, 4, protowire.BytesType)
	return protowire.AppendString(request, secretType)
}

// Shows each field of a message that has a length.
func fields(message []byte, show func(protowire.Number, []byte) error) error {
	for len(message) > 0 {
		number, kind, taken := protowire.ConsumeTag(message)
		if taken < 0 {
			return errors.New("this is no message")
		}
		message = message[taken:]
		length := protowire.ConsumeFieldValue(number, kind, message)
		if length < 0 {
			return fmt.Errorf("field %d is cut off", number)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := show(number, value); err != nil {
				return err
			}
		}
		message = message[length:]
	}
	return nil
}
