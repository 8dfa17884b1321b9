//! Lets the binaries and tests of a package find libtorch at run time: adds `$LIBTORCH/lib` to their rpath.

pub(crate) fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    match std::env::var("LIBTORCH") {
        Ok(root) => println!("cargo:rustc-link-arg=-Wl,-rpath,{root}/lib"),
        Err(_) => {
            println!("cargo:warning=LIBTORCH is not set: build through `make`, or set it to a libtorch 2.11 folder")
        }
    }
}
