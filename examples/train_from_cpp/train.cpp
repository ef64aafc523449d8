// Train without Python, from what write_files.py wrote. Debian: apt-get install libonnxruntime-dev
//   g++ -std=c++17 -O2 train.cpp -o train $(pkg-config --cflags --libs libonnxruntime)
//   ./train FOLDER STEPS

#include <onnxruntime_cxx_api.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

template <typename Number>
std::vector<Number> read(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<Number> numbers(file.tellg() / sizeof(Number));
  file.seekg(0).read(reinterpret_cast<char*>(numbers.data()), numbers.size() * sizeof(Number));
  return numbers;
}

int main(int count, char** arguments) {
  if (count != 3) return std::puts("usage: train FOLDER STEPS"), 2;
  const std::string folder = arguments[1];
  auto images = read<float>(folder + "/images.bin");
  auto labels = read<int64_t>(folder + "/labels.bin");
  const int64_t batch = 32, pixels = images.size() / labels.size(), batches = labels.size() / batch;

  Ort::Env environment;
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session first(environment, (folder + "/state.onnx").c_str(), options);
  Ort::Session step(environment, (folder + "/step.onnx").c_str(), options);
  Ort::AllocatorWithDefaultOptions allocator;
  std::vector<Ort::AllocatedStringPtr> owned;
  std::vector<const char*> inputs, outputs;  // the state, and then the batch or the loss
  for (size_t i = 0; i < step.GetInputCount(); i++)
    inputs.push_back(owned.emplace_back(step.GetInputNameAllocated(i, allocator)).get());
  for (size_t i = 0; i < step.GetOutputCount(); i++)
    outputs.push_back(owned.emplace_back(step.GetOutputNameAllocated(i, allocator)).get());

  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const int64_t shape[] = {batch, pixels};
  const Ort::RunOptions run;
  auto state = first.Run(run, nullptr, nullptr, 0, inputs.data(), inputs.size() - 2);
  for (int i = 0, steps = std::stoi(arguments[2]); i < steps; i++) {
    const int64_t begin = i % batches * batch;
    state.push_back(Ort::Value::CreateTensor<float>(
        memory, &images[begin * pixels], batch * pixels, shape, 2));
    state.push_back(Ort::Value::CreateTensor<int64_t>(memory, &labels[begin], batch, shape, 1));
    state = step.Run(run, inputs.data(), state.data(), inputs.size(), outputs.data(), outputs.size());
    std::printf("step %d loss %.9g\n", i, state.back().GetTensorData<float>()[0]);
    state.pop_back();
  }
  std::ofstream file(folder + "/params.bin", std::ios::binary);
  for (size_t i = 0; i < state.size(); i++)
    if (std::string(inputs[i]).rfind("params.", 0) == 0)
      file.write(reinterpret_cast<const char*>(state[i].GetTensorData<float>()),
                 state[i].GetTensorTypeAndShapeInfo().GetElementCount() * sizeof(float));
}
