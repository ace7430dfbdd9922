"""LitServe with batching on. It logs nothing."""

import os
import sys

import joblib
import litserve as ls
import pandas as pd


class Credit(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    def decode_request(self, request: dict) -> dict:
        return request

    def batch(self, inputs: list) -> pd.DataFrame:
        return pd.DataFrame(inputs).astype(float)

    def predict(self, frame: pd.DataFrame) -> list:
        return self.model.predict_proba(frame)[:, 1].tolist()

    def unbatch(self, output: list) -> list:
        return output

    def encode_response(self, output: float) -> dict:
        return {"prediction": int(output > 0.5), "probability": output}


if __name__ == "__main__":
    api = Credit(max_batch_size=64, batch_timeout=0.002)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
