// Files that pages load. docs/_tools/packed.py packs each file as a script, for a browser loads
// scripts from the disk, too. Nothing here is loaded before it is asked for.

const packed = { files: {} };

{
  const here = document.currentScript.src;

  packed.run = (url, name) =>
    new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = url;
      script.onload = done;
      script.onerror = () => fail(new Error(`there is no ${name}`));
      document.head.append(script);
    });

  async function unpack(folder, name) {
    await packed.run(new URL(`${folder}/packed/${name}.js`, here), name);
    const key = `${folder}/${name}`;
    const bytes = Uint8Array.from(atob(packed.files[key]), (char) => char.charCodeAt(0));
    delete packed.files[key];
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(plain).arrayBuffer());
  }

  // Make the function that promises the bytes of a file of a page: each is loaded once.
  packed.loader = (folder) => {
    const loads = {};
    return (name) => (loads[name] ??= unpack(folder, name));
  };

  // Say in words why a page could not load a file.
  packed.why = (error) =>
    error.message.startsWith("there is no")
      ? `${error.message}: this copy of the site was built without npm or network. Build it with both.`
      : typeof DecompressionStream === "undefined"
        ? "This browser cannot unpack files. Firefox 113, Chrome 80, Safari 16.4 or newer can."
        : error.message;
}
