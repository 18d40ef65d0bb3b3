"""gRPC for Python as a workload, without the option `grpc.default_authority`: it names the socket's path as the authority of its requests.

    workload.py x509 ADDRESS    each answer of FetchX509SVID as a line in base64, until the standard input ends
    workload.py bare ADDRESS    asks without the security header; code and message of the refusal
"""

import base64
import sys
import threading

import grpc

PATIENCE = 60


def calls(channel, metadata):
    fetch = channel.unary_stream(
        "/SpiffeWorkloadAPI/FetchX509SVID", request_serializer=bytes, response_deserializer=bytes
    )
    return fetch(b"", metadata=metadata, timeout=PATIENCE)


def main(command, address):
    metadata = [("workload.spiffe.io", "true")] if command == "x509" else []
    with grpc.insecure_channel(address) as channel:
        answers = calls(channel, metadata)
        if command == "x509":
            threading.Thread(target=lambda: (sys.stdin.read(), answers.cancel()), daemon=True).start()
        try:
            for answer in answers:
                print(base64.b64encode(answer).decode(), flush=True)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                print(error.code().name, error.details(), flush=True)


main(*sys.argv[1:])
