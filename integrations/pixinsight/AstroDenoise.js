// Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
//
// Denoises the active image of PixInsight with the command astrodenoise.
//
// Not tried in PixInsight yet: written after the interfaces of its JavaScript runtime, tested in node
// with stand-ins for them.
//
// The main view is saved as a temporary file in 32-bit floats, astrodenoise denoises that file, and
// the result is opened as a new image with the STF, the properties and the astrometric solution of
// the view.  The view itself is not changed.

#feature-id    AstroDenoise : Noise Reduction > AstroDenoise
#feature-info  Removes the noise of a deep-sky image with the command astrodenoise.

#include <pjsr/DataType.jsh>
#include <pjsr/NumericControl.jsh>
#include <pjsr/Sizer.jsh>
#include <pjsr/StdButton.jsh>
#include <pjsr/StdIcon.jsh>
#include <pjsr/TextAlign.jsh>
#include <pjsr/UndoFlag.jsh>

var TITLE = "AstroDenoise";
var KEY = "AstroDenoise/";
var MODELS = ["default", "fast"];
var NOT_FOUND = 127; // what /usr/bin/env gives

// ---- what the user asks for ----------------------------------------------------------------------

function Options() {
   this.executable = defaultExecutable();
   this.strength = 0.85; // all of the noise taken looks too smooth to most eyes
   this.ownChroma = false; // colour noise has a strength of its own
   this.chroma = 0.85;
   this.model = "default";
   this.joint = true; // the planes are colours of one camera
}

// Where uv and pipx put commands: PixInsight started from a desktop does not search there.
function defaultExecutable() {
   var name = isOn("windows") ? "astrodenoise.exe" : "astrodenoise";
   var path = File.homeDirectory + "/.local/bin/" + name;
   return File.exists(path) ? path : "astrodenoise";
}

function isOn(system) {
   return String(CoreApplication.platform).toLowerCase().indexOf(system) >= 0;
}

Options.prototype.types = function() {
   return {
      executable: DataType_UCString,
      strength: DataType_Double,
      ownChroma: DataType_Boolean,
      chroma: DataType_Double,
      model: DataType_UCString,
      joint: DataType_Boolean
   };
};

// PixInsight remembers settings from one session to the next.
Options.prototype.load = function() {
   var types = this.types();
   for (var name in types) {
      var value = Settings.read(KEY + name, types[name]);
      if (Settings.lastReadOK && value !== null && value !== undefined)
         this[name] = value;
   }
   this.mend();
};

Options.prototype.save = function() {
   var types = this.types();
   for (var name in types)
      Settings.write(KEY + name, types[name], this[name]);
};

// Parameters are what a process icon holds.
Options.prototype.fromParameters = function() {
   if (Parameters.has("strength"))
      this.strength = Parameters.getReal("strength");
   if (Parameters.has("chroma"))
      this.chroma = Parameters.getReal("chroma");
   if (Parameters.has("ownChroma"))
      this.ownChroma = Parameters.getBoolean("ownChroma");
   if (Parameters.has("joint"))
      this.joint = Parameters.getBoolean("joint");
   if (Parameters.has("model"))
      this.model = Parameters.getString("model");
   this.mend();
};

Options.prototype.toParameters = function() {
   Parameters.set("strength", this.strength);
   Parameters.set("chroma", this.chroma);
   Parameters.set("ownChroma", this.ownChroma);
   Parameters.set("joint", this.joint);
   Parameters.set("model", this.model);
};

// Settings can be old, or written by hand.
Options.prototype.mend = function() {
   var usual = new Options();
   var shares = ["strength", "chroma"];
   for (var i = 0; i < shares.length; ++i) {
      var value = Number(this[shares[i]]);
      this[shares[i]] = value >= 0 && value <= 1 ? value : usual[shares[i]];
   }
   if (MODELS.indexOf(this.model) < 0)
      this.model = usual.model;
   this.executable = String(this.executable).trim() || usual.executable;
};

// The arguments of the command for an image.
Options.prototype.commandLine = function(image, source, target) {
   var list = ["denoise", source, "-o", target, "--strength", String(this.strength)];
   list.push("--model", this.model);
   if (image.isColor) {
      list.push("--channels", this.joint ? "joint" : "separate");
      if (this.joint && this.ownChroma)
         list.push("--strength-chroma", String(this.chroma));
   }
   return list;
};

// ---- the work ------------------------------------------------------------------------------------

function denoiseView(view, options) {
   var window = view.window;
   view = window.mainView; // a preview's noise is told by the whole frame
   var image = view.image;
   if (image.numberOfChannels != (image.isColor ? 3 : 1))
      throw new Error(view.id + " has an alpha channel: remove it (ExtractAlphaChannels) first");
   var folder = temporaryFolder();
   var source = folder + "/image.xisf";
   var target = folder + "/denoised.xisf";
   try {
      File.createDirectory(folder, true);
      saveCopy(window, source);
      runCommand(options.executable, options.commandLine(image, source, target));
      if (!File.exists(target))
         throw new Error("astrodenoise wrote no image");
      return openResult(target, window);
   } finally {
      removeFolder(folder, [source, target]);
   }
}

function temporaryFolder() {
   var number = Math.floor(Math.random() * 1e9);
   return File.systemTempDirectory + "/astrodenoise-" + Date.now() + "-" + number;
}

// Of a copy: to save the window itself would give it another file.
function saveCopy(window, path) {
   var image = window.mainView.image;
   var copy = new ImageWindow(
      image.width, image.height, image.numberOfChannels, 32, true, image.isColor, "astrodenoise_copy"
   );
   try {
      copy.mainView.beginProcess(UndoFlag_NoSwapFile);
      copy.mainView.image.assign(image);
      copy.mainView.endProcess();
      copy.keywords = window.keywords;
      if (!copy.saveAs(path, false, false, true, false))
         throw new Error("the temporary file " + path + " could not be written");
   } finally {
      copy.forceClose();
   }
}

// Runs the command and shows what it prints; throws what it complains of.
function runCommand(executable, list) {
   var program = executable;
   if (isOn("linux")) {
      // PixInsight's own libraries are not those that Python was built with
      program = "/usr/bin/env";
      list = ["-u", "LD_LIBRARY_PATH", executable].concat(list);
   }
   var process = new ExternalProcess;
   var said = { out: "", err: "" };
   var failedToStart = false;
   process.onStandardOutputDataAvailable = function() {
      said.out += String(process.stdout);
   };
   process.onStandardErrorDataAvailable = function() {
      said.err += String(process.stderr);
   };
   process.onError = function() {
      failedToStart = true;
   };
   Console.show();
   Console.writeln("<end><cbr>" + plain(TITLE + ": " + executable + " " + list.join(" ")));
   Console.abortEnabled = true;
   process.start(program, list);
   var aborted = waitFor(process);
   said.out += String(process.stdout);
   said.err += String(process.stderr);
   if (aborted)
      throw new Error("stopped");
   if (process.exitCode == NOT_FOUND || (failedToStart && !said.out && !said.err))
      throw new Error(
         "the command " + executable + " could not be started: install astrodenoise, or set its path"
      );
   if (process.exitCode != 0 || failedToStart)
      throw new Error(said.err.trim() || "astrodenoise ended with status " + process.exitCode);
   tellLines(said.out, function(line) { Console.writeln(line); });
   tellLines(said.err, function(line) { Console.warningln(line); });
}

// Keeps PixInsight alive; gives whether the user stopped it.
function waitFor(process) {
   while (process.isStarting)
      processEvents();
   while (process.isRunning && !process.waitForFinished(200)) {
      processEvents();
      if (Console.abortRequested) {
         process.kill();
         process.waitForFinished(5000);
         return true;
      }
   }
   return false;
}

function tellLines(text, tell) {
   var lines = text.split(/[\r\n]+/);
   for (var i = 0; i < lines.length; ++i)
      if (lines[i].trim())
         tell(plain(lines[i]));
}

// The console and message boxes take text for markup.
function plain(text) {
   return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function openResult(path, window) {
   var windows = ImageWindow.open(path, window.mainView.id + "_denoised", "", true);
   if (windows.length == 0 || windows[0].isNull)
      throw new Error("PixInsight could not open what astrodenoise wrote");
   var result = windows[0];
   var view = result.mainView;
   view.beginProcess(UndoFlag_NoSwapFile);
   view.image.truncate(0, 1); // PixInsight's range
   view.endProcess();
   copyProperties(window.mainView, view);
   if (window.hasAstrometricSolution)
      result.copyAstrometricSolution(window);
   view.stf = window.mainView.stf;
   result.show();
   return result;
}

function copyProperties(from, to) {
   var names = from.properties;
   for (var i = 0; i < names.length; ++i) {
      try {
         to.setPropertyValue(names[i], from.propertyValue(names[i]), from.propertyType(names[i]));
      } catch (error) {
         // reserved ones, which PixInsight computes
      }
   }
}

function removeFolder(folder, files) {
   for (var i = 0; i < files.length; ++i)
      if (File.exists(files[i]))
         File.remove(files[i]);
   if (File.directoryExists(folder)) {
      try {
         File.removeDirectory(folder);
      } catch (error) {
         Console.warningln(plain(TITLE + ": the folder " + folder + " is left: " + error.message));
      }
   }
}

// ---- the dialog ----------------------------------------------------------------------------------

function AstroDenoiseDialog(options, view) {
   this.__base__ = Dialog;
   this.__base__();
   var dialog = this;
   var colour = view.image.isColor;
   var labelWidth = this.font.width("Colour strength:MM");

   this.help = new Label(this);
   this.help.wordWrapping = true;
   this.help.useRichText = true;
   this.help.text = "<p><b>" + TITLE + "</b> denoises <b>" + view.id + "</b> into a new image.</p>";

   function share(label, value, toolTip, set) {
      var control = new NumericControl(dialog);
      control.label.text = label;
      control.label.minWidth = labelWidth;
      control.setRange(0, 1);
      control.slider.setRange(0, 100);
      control.setPrecision(2);
      control.setValue(value);
      control.toolTip = toolTip;
      control.onValueUpdated = set;
      return control;
   }

   this.strength = share(
      "Strength:", options.strength, "<p>Share of the noise that is taken out.</p>",
      function(value) { options.strength = value; }
   );
   this.chroma = share(
      "Colour strength:", options.chroma, "<p>The same of the colour of the noise.</p>",
      function(value) { options.chroma = value; }
   );

   function box(text, checked, toolTip, set) {
      var control = new CheckBox(dialog);
      control.text = text;
      control.checked = checked;
      control.toolTip = toolTip;
      control.enabled = colour;
      control.onCheck = function(value) {
         set(value);
         follow();
      };
      return control;
   }

   this.joint = box(
      "Red, green and blue are of one colour camera", options.joint,
      "<p>Untick it for exposures through filters or narrow bands.</p>",
      function(value) { options.joint = value; }
   );
   this.ownChroma = box(
      "Colour noise by itself", options.ownChroma,
      "<p>Take another share of the colour of the noise.</p>",
      function(value) { options.ownChroma = value; }
   );

   function follow() {
      dialog.ownChroma.enabled = colour && options.joint;
      dialog.chroma.enabled = colour && options.joint && options.ownChroma;
   }

   function row(text, controls) {
      var label = new Label(dialog);
      label.text = text;
      label.minWidth = labelWidth;
      label.textAlignment = TextAlign_Right | TextAlign_VertCenter;
      var sizer = new HorizontalSizer;
      sizer.spacing = 4;
      sizer.add(label);
      for (var i = 0; i < controls.length; ++i)
         sizer.add(controls[i], i == 0 ? 100 : 0);
      return sizer;
   }

   this.model = new ComboBox(this);
   for (var i = 0; i < MODELS.length; ++i)
      this.model.addItem(MODELS[i]);
   this.model.currentItem = MODELS.indexOf(options.model);
   this.model.toolTip = "<p>fast is quicker and leaves a little more noise.</p>";
   this.model.onItemSelected = function(index) { options.model = MODELS[index]; };

   this.executable = new Edit(this);
   this.executable.text = options.executable;
   this.executable.toolTip = "<p>The command astrodenoise, with its path.</p>";
   this.executable.onEditCompleted = function() { options.executable = this.text.trim(); };
   this.browse = new PushButton(this);
   this.browse.text = "Find...";
   this.browse.onClick = function() {
      var finder = new OpenFileDialog;
      finder.caption = "Where is the command astrodenoise?";
      if (finder.execute()) {
         options.executable = finder.fileName;
         dialog.executable.text = finder.fileName;
      }
   };

   this.instance = new ToolButton(this);
   this.instance.icon = this.scaledResource(":/process-interface/new-instance.png");
   this.instance.toolTip = "<p>Make a process icon.</p>";
   this.instance.onMousePress = function() {
      options.toParameters();
      dialog.newInstance();
   };
   this.run = new PushButton(this);
   this.run.text = "Denoise";
   this.run.defaultButton = true;
   this.run.onClick = function() { dialog.ok(); };
   this.quit = new PushButton(this);
   this.quit.text = "Cancel";
   this.quit.onClick = function() { dialog.cancel(); };
   var buttons = new HorizontalSizer;
   buttons.spacing = 6;
   buttons.add(this.instance);
   buttons.addStretch();
   buttons.add(this.run);
   buttons.add(this.quit);

   this.sizer = new VerticalSizer;
   this.sizer.margin = 8;
   this.sizer.spacing = 6;
   this.sizer.add(this.help);
   this.sizer.add(this.strength);
   this.sizer.add(this.joint);
   this.sizer.add(this.ownChroma);
   this.sizer.add(this.chroma);
   this.sizer.add(row("Model:", [this.model]));
   this.sizer.add(row("Command:", [this.executable, this.browse]));
   this.sizer.addSpacing(4);
   this.sizer.add(buttons);
   follow();

   this.windowTitle = TITLE;
   this.scaledMinWidth = 480;
   this.adjustToContents();
}

AstroDenoiseDialog.prototype = new Dialog;

// ---- the script ----------------------------------------------------------------------------------

function tellFailed(error) {
   var text = plain(error.message || String(error));
   Console.show();
   Console.criticalln("<end><cbr>" + TITLE + ": " + text);
   (new MessageBox(text.replace(/\n/g, "<br>"), TITLE, StdIcon_Error, StdButton_Ok)).execute();
}

function main() {
   var options = new Options();
   options.load();
   try {
      var view = null;
      if (Parameters.isViewTarget) {
         options.fromParameters();
         view = Parameters.targetView;
      } else {
         if (Parameters.isGlobalTarget)
            options.fromParameters();
         var window = ImageWindow.activeWindow;
         if (window.isNull)
            throw new Error("no image is open: open one first");
         view = window.mainView;
         if (!(new AstroDenoiseDialog(options, view)).execute())
            return;
         options.mend();
         options.save();
      }
      denoiseView(view, options);
   } catch (error) {
      tellFailed(error);
   }
}

main();
