"Files that version 0.1.0 wrote: they load, and their runs go on."
import shutil
from pathlib import Path

import pytest
import torch

from vae_course.cli import main
from vae_course.data import Examples
from vae_course.elbo import mlp_vae
from vae_course.checkpoint import CheckpointError, load_checkpoint
from vae_course.training import fit, load_model

files = Path(__file__).parent / "files"


def examples():
    return Examples(torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
                    torch.zeros(40).long())


def test_a_model():
    model = load_model(files / "model-0.1.0.safetensors")
    assert (model.beta == 2.5 and model.latent_dim == 3
            and type(model).__name__ == "BetaVAE")


@pytest.mark.slow
def test_an_unfinished_run_is_a_model_and_goes_on(tmp_path):
    path = shutil.copy(files / "run-0.1.0.safetensors", tmp_path / "run.safetensors")
    assert load_model(path).beta == 4.0 and len(load_checkpoint(path)["history"]) == 2
    model = mlp_vae((1, 8, 8), 3, (8,))
    model.beta.fill_(4.0)
    history = fit(model, examples(), examples()[:10], epochs=3, batch_size=20,
                  patience=2, device="cpu", progress=False, checkpoint=path)
    assert history["epoch"] == [1, 2, 3]


def test_a_folder_of_the_command_line(tmp_path, capsys):
    folder = shutil.copytree(files / "run-0.1.0", tmp_path / "run")
    main(["train", "--model", "vae", "--data", "digits", "--epochs", "1", "--out",
          str(folder), "--device", "cpu", "--set", "hidden=[4]", "--set",
          "latent_dim=2"])
    assert "finished already: epoch 1 of 1" in capsys.readouterr().out
    main(["sample", str(folder), "-n", "4", "--device", "cpu"])
    assert (folder / "samples.png").exists()
    with pytest.raises(SystemExit, match="epochs was 1 and is 2"):
        main(["train", "--model", "vae", "--data", "digits", "--epochs", "2", "--out",
              str(folder), "--device", "cpu", "--set", "hidden=[4]", "--set",
              "latent_dim=2"])


def test_the_parts_of_a_run_have_the_names_of_today():
    state = load_checkpoint(files / "run-0.1.0.safetensors")
    assert state["step_config"] == dict(precision="fp32", compile=False, graphs=False)
    assert state["config"]["name"] == "vae" and state["config"]["latent_dim"] == 3
    assert state["facts"]["config"] == state["config"]
    assert not {"switches", "recipe"} & {*state, *state["facts"]}


def test_a_run_of_another_precision_is_refused_by_its_old_file_too(tmp_path):
    path = shutil.copy(files / "run-0.1.0.safetensors", tmp_path / "run.safetensors")
    model = mlp_vae((1, 8, 8), 3, (8,))
    model.beta.fill_(4.0)
    with pytest.raises(CheckpointError, match="precision was fp32 and is bf16"):
        fit(model, examples(), examples()[:10], epochs=3, batch_size=20, patience=2,
            device="cpu", progress=False, checkpoint=path, precision="bf16")
